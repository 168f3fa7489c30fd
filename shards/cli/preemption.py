"""SIGTERM: the machine is about to be taken away. What is under way is given up in order, what is finished stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED = 75  # exit code after SIGTERM: the same command goes on (EX_TEMPFAIL)


class Preempted(BaseException):
    """SIGTERM came. Like KeyboardInterrupt it passes every handler of errors, and closes every context on its way."""


@contextmanager
def preemptible() -> Iterator[None]:
    """Let SIGTERM raise Preempted in here, once: a second one does not disturb the closing. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Preempted
