"""Where a step's time goes: a trace of a few steps by torch.profiler, for `profile=true`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import profile, schedule

WAIT, WARM_UP, ACTIVE = 5, 1, 3  # steps: the compiler's, the profiler's own beginning, and those that are recorded


@contextmanager
def traced(path: Path | None) -> Iterator[Callable[[], None]]:
    """Gives what is to be called at the end of each step. None: nothing is recorded.

    `path` is written after WAIT + WARM_UP + ACTIVE steps, for chrome://tracing or ui.perfetto.dev.
    """
    if path is None:
        yield lambda: None
        return
    with profile(
        schedule=schedule(wait=WAIT, warmup=WARM_UP, active=ACTIVE, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    ) as profiler:
        yield profiler.step
