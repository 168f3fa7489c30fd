from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shards.format.clip import ClipSpec
from shards.loader.batch import Batch, BatchStream, allocate


class Counting(BatchStream):
    """Fills batches with 0, 1, 2, ... in threads that end in the opposite order; fails at one of them."""

    def __init__(self, ring: list[Batch], numbers: int, fails_at: int = -1) -> None:
        super().__init__(ring)
        self.pool, self.numbers, self.started, self.fails_at = ThreadPoolExecutor(4), numbers, 0, fails_at
        self.turn = threading.Event()

    def _start(self, batch: Batch) -> list[Future[None]] | None:
        if self.started == self.numbers:
            return None
        number, self.started = self.started, self.started + 1
        return [self.pool.submit(self._fill, batch, number)]

    def _stop(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def _fill(self, batch: Batch, number: int) -> None:
        if number == self.fails_at:
            raise ValueError(f"no {number}")
        if number % 2:
            self.turn.set()
        else:
            self.turn.wait(timeout=0.05)
        batch.waveform[:] = number


@pytest.fixture
def ring() -> list[Batch]:
    return [allocate(1, ClipSpec(sample_rate=10, seconds=1.0, windows=1), {"objects": 2}) for _ in range(3)]


def test_batches_come_in_order_and_end(ring: list[Batch]) -> None:
    seen = []
    with Counting(ring, 8) as stream:
        for batch in stream:
            seen.append(int(batch.waveform[0, 0]))
            stream.release(batch)
    assert seen == list(range(8))


def test_no_more_is_filled_than_the_ring_holds(ring: list[Batch]) -> None:
    with Counting(ring, 100) as stream:
        batch = next(stream)
        assert stream.started == 3
        stream.release(batch)
        assert stream.started == 4


def test_a_threads_error_reaches_the_consumer_in_its_turn_and_closes(ring: list[Batch]) -> None:
    stream = Counting(ring, 8, fails_at=1)
    stream.release(next(stream))
    with pytest.raises(ValueError, match="no 1"):
        next(stream)
    with pytest.raises(RuntimeError, match="closed"):
        next(stream)
