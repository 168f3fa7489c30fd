"""Where a step's time goes: a trace of a few steps by torch.profiler, for `profile=true`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import profile, schedule

from shards.files import replacing

WAIT, WARM_UP, ACTIVE = 5, 1, 3  # steps: the compiler's, the profiler's own beginning, and those that are recorded


@contextmanager
def traced(path: Path | None) -> Iterator[Callable[[], None]]:
    """Gives what is to be called at the end of each step. None: nothing is recorded.

    `path` is written after WAIT + WARM_UP + ACTIVE steps, for chrome://tracing or ui.perfetto.dev; a line says so where
    there were fewer.
    """
    if path is None:
        yield lambda: None
        return
    wanted = WAIT + WARM_UP + ACTIVE

    def write(profiler: profile) -> None:
        if profiler.step_num >= wanted:
            with replacing(path) as partial:
                profiler.export_chrome_trace(str(partial))

    rhythm = schedule(wait=WAIT, warmup=WARM_UP, active=ACTIVE, repeat=1)
    with profile(schedule=rhythm, on_trace_ready=write) as profiler:
        yield profiler.step
    if profiler.step_num < wanted:
        print(f"no {path.name}: it takes {wanted} steps, and there were fewer", file=sys.stderr)
