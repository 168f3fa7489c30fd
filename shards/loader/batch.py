"""The batch that training takes, and the ring of batches that threads fill ahead of it, used again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.format.clip import ClipSpec


@dataclass(frozen=True)
class Skip:
    """A clip that was drawn for a row and left out, because its bytes are not those that were written."""

    row: int
    clip: int  # catalog index
    reason: str


@dataclass(eq=False)
class Batch:
    """Bytes as they lie in the shards; scaling, tiling and everything else happens on the device.

    A clip shorter than the buffers is followed by zeros, in samples and in windows. Rows from `count` on are empty:
    the last validation batch may be short, its buffers never are.
    """

    waveform: NDArray[np.int16]  # (rows, samples)
    lengths: NDArray[np.int32]  # (rows,), samples
    windows: NDArray[np.int32]  # (rows,)
    posteriors: dict[str, NDArray[np.float16]]  # head -> (rows, windows, classes)
    clips: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # (count,), catalog indices
    position: int = 0  # of row 0 in the stream; row i stands at position + i
    consumed: int = 0  # what a checkpoint keeps once this batch is trained on: clips of all ranks together
    skipped: list[Skip] = field(default_factory=list)  # in no order; `clips` has what stands in their rows instead

    def __post_init__(self) -> None:
        _require(self.waveform, np.int16, self.rows, "waveform")
        _require(self.lengths, np.int32, self.rows, "lengths")
        _require(self.windows, np.int32, self.rows, "windows")
        for head, posterior in self.posteriors.items():
            _require(posterior, np.float16, self.rows, f"posterior of {head}")

    @property
    def rows(self) -> int:
        return len(self.waveform)

    @property
    def count(self) -> int:
        """Rows that hold a clip."""
        return len(self.clips)

    def clear_row(self, row: int, *, samples: int, windows: int) -> None:
        """Set a row's lengths, and zero what its clip will not fill."""
        self.lengths[row], self.windows[row] = samples, windows
        self.waveform[row, samples:] = 0
        for posterior in self.posteriors.values():
            posterior[row, windows:] = 0


def allocate(rows: int, clip: ClipSpec, classes: Mapping[str, int]) -> Batch:
    """A batch in ordinary memory; the training loop allocates its own in pinned memory."""
    return Batch(
        waveform=np.zeros((rows, clip.samples), np.int16),
        lengths=np.zeros(rows, np.int32),
        windows=np.zeros(rows, np.int32),
        posteriors={head: np.zeros((rows, clip.windows, count), np.float16) for head, count in classes.items()},
    )


def _require(buffer: NDArray[np.generic], dtype: type[np.generic], rows: int, name: str) -> None:
    if buffer.dtype != dtype or len(buffer) != rows or not buffer.flags.c_contiguous or not buffer.flags.writeable:
        found = f"{buffer.dtype} {buffer.shape}"
        raise ValueError(f"{name} must be a writable, contiguous buffer of {dtype.__name__}, {rows} rows, not {found}")


class PrefetchRing(ABC):
    """Iterates over batches in order; all `buffers` that the consumer does not hold are being filled ahead.

    A batch belongs to the consumer until `release` gives it back; until then nothing writes into it. A thread's error
    is raised by `next`, after which the ring is closed. For one consumer thread. A reader is a subclass that says how
    a batch is filled.
    """

    def __init__(self, buffers: Sequence[Batch]) -> None:
        self._idle = deque(buffers)
        self._under_way: deque[tuple[Batch, list[Future[None]]]] = deque()
        self._closed = False

    @abstractmethod
    def _start(self, batch: Batch) -> list[Future[None]] | None:
        """Begin to fill a batch: the parts of that work, in threads; None where nothing is left to fill it with."""

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
        """End all threads; afterwards nothing writes into the buffers any more."""
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
