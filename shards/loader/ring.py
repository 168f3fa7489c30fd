"""A ring of batches between the threads that fill them and the loop that drains them, in order, never too far ahead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from shards.loader.batch import Batch


class BatchStream(ABC):
    """Iterates over batches, as many filled ahead as the ring has buffers.

    A batch belongs to the consumer until `release` gives it back; until then nothing writes into it. A thread's error
    is raised by `next`, after which the stream is closed. For one consumer thread.
    """

    def __init__(self, ring: Sequence[Batch]) -> None:
        self._idle = deque(ring)
        self._under_way: deque[tuple[Batch, list[Future[None]]]] = deque()
        self._closed = False

    @abstractmethod
    def _start(self, batch: Batch) -> list[Future[None]] | None:
        """Begin to fill a batch; None where there is nothing more to fill it with."""

    @abstractmethod
    def _stop(self) -> None:
        """End all threads and wait for them; may be called twice."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise RuntimeError("the stream of batches is closed")
        self._fill_idle()
        if not self._under_way and not self._idle:
            raise RuntimeError("all batches are handed out: release one before asking for the next")
        if not self._under_way:
            raise StopIteration
        batch, parts = self._under_way.popleft()
        try:
            for part in parts:
                part.result()
        except BaseException:
            self.close()
            raise
        return batch

    def release(self, batch: Batch) -> None:
        """Give a batch back; its buffers begin to be filled anew."""
        self._idle.append(batch)
        self._fill_idle()

    def close(self) -> None:
        """End all threads; afterwards nothing writes into the ring any more."""
        self._closed = True
        self._stop()
        self._under_way.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fill_idle(self) -> None:
        while self._idle and not self._closed and (parts := self._start(self._idle[0])) is not None:
            self._under_way.append((self._idle.popleft(), parts))
