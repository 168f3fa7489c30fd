"""Stopping a run by SIGTERM (a machine about to be taken away) or Ctrl-C: all ranks save at one step, then end."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist

from shards.cli.preemption import PREEMPTED
from train.device.distributed import Ranks


class Stop:
    """Use as a context; call once a step on every rank: True from the step on at which all ranks stop.

    At each step the ranks send around which signal they got, and act on it at the next: none waits, none goes on alone.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._control = ranks.control
        self._asked = 0  # number of the signal that this process got
        self._agreed = 0  # ... that all ranks act on
        self._requested = torch.zeros(1, dtype=torch.int64)
        self._reduction: dist.Work | None = None
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        if self._control is None:
            self._agreed = self._asked
            return self._agreed > 0
        if self._reduction is not None:
            self._reduction.wait()
            self._agreed = int(self._requested)
        self._requested = torch.tensor([self._asked])
        self._reduction = dist.all_reduce(self._requested, dist.ReduceOp.MAX, group=self._control, async_op=True)
        return self._agreed > 0

    @property
    def asked(self) -> bool:
        """Whether this process got a signal, which the others may not know of yet."""
        return self._asked > 0

    @property
    def signal(self) -> signal.Signals | None:
        """What all ranks stop for, once they do."""
        return signal.Signals(self._agreed) if self._agreed else None

    def leave(self) -> None:
        """End the process as the signal wants it: with code 75 after SIGTERM, as interrupted after Ctrl-C."""
        if self._agreed == signal.SIGTERM:
            sys.exit(PREEMPTED)
        if self._agreed == signal.SIGINT:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked == signal.SIGINT == number:
            raise KeyboardInterrupt  # twice: at once, without saving
        self._asked = number
