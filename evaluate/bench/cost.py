"""What a piece of work costs: time, and the peak memory of its process and of that process's children."""

from __future__ import annotations

import multiprocessing
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Cost:
    """Of one function in a fresh process. Memory is resident at its peak; `child_bytes` is the largest child's."""

    seconds: float
    cpu_seconds: float  # children included
    own_bytes: int
    child_bytes: int
    result: Any


def cost_of(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Run function(*arguments) in a process of its own. Both must be importable there. Linux only (/proc)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        cost = ours.recv()
    except EOFError:
        raise SystemExit("the measured process ended: what it printed stands above") from None
    process.join()
    assert isinstance(cost, Cost)
    return cost


def _measure(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    forget_program()
    children = Children()
    children.start()
    begun = time.monotonic()
    result = function(*arguments)
    seconds = time.monotonic() - begun
    pipe.send(Cost(seconds, cpu_seconds(), peak_bytes("self"), children.largest, result))


def cpu_seconds() -> float:
    """Of this process so far, and of the children that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def forget_program() -> None:
    """Else the children of this process would import the program that it was started for, and torch with it."""
    sys.modules["__main__"] = ModuleType("__main__")


class Children(threading.Thread):
    """Watches the peaks of this process's children while they live; `largest` is the highest so far."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0

    def run(self) -> None:
        while True:
            for task in Path("/proc/self/task").iterdir():
                self._update(task)
            time.sleep(POLL_SECONDS)

    def _update(self, task: Path) -> None:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            return  # the thread has ended
        self.largest = max([self.largest, *map(peak_bytes, children)])


def peak_bytes(process: str) -> int:
    """The most that a process has had resident since it began its program; 0 once it is gone.

    Not getrusage's figure: that one inherits what the parent had when it forked.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
