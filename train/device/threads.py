"""How many threads a CPU computes in: small networks side by side, one thread each.

Threads that share one small convolution wait for each other longer than they compute, and spin while they wait: most of
the CPU seconds that many short sounds took.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

AHEAD = 2  # of an iterator's items are held for each thread
MOST_THREADS = 16  # much of reading a short sound is Python, whose lock one has at a time; 16 on 2 cores cost as 2 do

Item = TypeVar("Item")
Result = TypeVar("Result")

_worker = threading.local()  # .stopping: in a thread of `side_by_side`, the event that ends it


def available_threads() -> int:
    """As many as torch would let one operation have: the cores this process may use, or OMP_NUM_THREADS."""
    return 1 if hasattr(_worker, "stopping") else min(torch.get_num_threads(), MOST_THREADS)


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """function(item) of each, in order, in `threads` (None: `available_threads`) of one torch thread each.

    A list is worked through as threads come free; of an iterator, AHEAD items a thread are taken, by the caller, who
    has one torch thread as well until the end: several would spin beside those that compute. Inside such a
    thread, or with one alone, items are worked through one by one. What one raises is raised in its place, and ends
    the others at their next item.
    """
    threads = available_threads() if threads is None else threads
    if isinstance(items, Sequence):
        threads = min(threads, len(items))
    if threads <= 1:
        yield from _one_by_one(function, items)
        return
    stopping, before, waiting, rest = threading.Event(), torch.get_num_threads(), deque[Future[Result]](), iter(items)
    pool = ThreadPoolExecutor(threads, "side by side", _begin, (stopping,))
    torch.set_num_threads(1)
    try:
        for item in islice(rest, None if isinstance(items, Sequence) else AHEAD * threads):
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # new threads take over what was set last in any


def _begin(stopping: threading.Event) -> None:
    _worker.stopping = stopping
    torch.set_num_threads(1)


def _one_by_one(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    stopping: threading.Event | None = getattr(_worker, "stopping", None)
    for item in items:
        if stopping is not None and stopping.is_set():
            raise InterruptedError("another thread has ended the work")  # nobody waits for it
        yield function(item)
