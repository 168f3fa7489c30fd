from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from shards.format.clip import ClipSpec
from shards.loader.batch import Batch, PrefetchRing, allocate

CLIP = ClipSpec(sample_rate=1000, seconds=2.0, windows=4)


def test_a_batch_is_sized_by_clip_and_heads() -> None:
    batch = allocate(3, CLIP, {"objects": 7, "scenes": 5})
    assert batch.waveform.shape == (3, 2000) and batch.rows == 3 and batch.count == 0
    assert {head: posterior.shape for head, posterior in batch.posteriors.items()} == {
        "objects": (3, 4, 7),
        "scenes": (3, 4, 5),
    }


def test_buffers_that_cannot_be_read_into_are_refused() -> None:
    good = allocate(4, CLIP, {"objects": 7})
    with pytest.raises(ValueError, match=r"posterior of objects must be .* 4 rows"):
        Batch(good.waveform, good.lengths, good.windows, {"objects": np.zeros((3, 4, 7), np.float16)})
    with pytest.raises(ValueError, match="contiguous"):
        Batch(np.zeros((4, 4000), np.int16)[:, ::2], good.lengths, good.windows, good.posteriors)
    with pytest.raises(ValueError, match="float32"):
        Batch(np.zeros((4, 2000), np.float32), good.lengths, good.windows, good.posteriors)  # type: ignore[arg-type]
    frozen = good.waveform.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        Batch(frozen, good.lengths, good.windows, good.posteriors)


class Counting(PrefetchRing):
    """Fills batches with 0, 1, 2, ... in threads that end in the opposite order; fails at one of them."""

    def __init__(self, buffers: list[Batch], numbers: int, fails_at: int = -1) -> None:
        super().__init__(buffers)
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
def buffers() -> list[Batch]:
    return [allocate(1, ClipSpec(sample_rate=10, seconds=1.0, windows=1), {"objects": 2}) for _ in range(3)]


def test_batches_come_in_order_and_end(buffers: list[Batch]) -> None:
    seen = []
    with Counting(buffers, 8) as ring:
        for batch in ring:
            seen.append(int(batch.waveform[0, 0]))
            ring.release(batch)
    assert seen == list(range(8))


def test_no_more_is_filled_than_the_ring_holds(buffers: list[Batch]) -> None:
    with Counting(buffers, 100) as ring:
        batch = next(ring)
        assert ring.started == 3
        ring.release(batch)
        assert ring.started == 4


def test_a_threads_error_reaches_the_consumer_in_its_turn_and_closes(buffers: list[Batch]) -> None:
    ring = Counting(buffers, 8, fails_at=1)
    ring.release(next(ring))
    with pytest.raises(ValueError, match="no 1"):
        next(ring)
    with pytest.raises(RuntimeError, match="closed"):
        next(ring)
