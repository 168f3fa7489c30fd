"""Checkpoints are written beside the training, which waits only until their values are copied."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import Any, Self

from torch import Tensor


class Saver:
    """Use as a context. One thread writes one file after the other, and holds `writing` meanwhile.

    What kept a file from being written is raised by the next `submit`, or by the context's end.
    """

    def __init__(self, writing: Lock) -> None:
        self._lock = writing
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._writing: Future[None] | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Have `write` called once what was submitted before is written."""
        self._wait()
        self._writing = self._thread.submit(self._write, write)

    def _write(self, write: Callable[[], None]) -> None:
        with self._lock:
            write()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._thread.shutdown()


def copied(values: Any) -> Any:
    """A state dict on the CPU that stays as it is while training goes on."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", copy=True)
    if isinstance(values, dict):
        return {name: copied(value) for name, value in values.items()}
    if isinstance(values, list):
        return [copied(value) for value in values]
    return values
