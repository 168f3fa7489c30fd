"""The reader: threads move the bytes of the clips drawn straight into the rows of batches, ahead of the training loop.

Threads wait for the disk and copy; system calls and flac decoding release Python's lock, so no processes are needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from shards.batch import Batch
from shards.catalog import Catalog
from shards.codec import DamagedExample
from shards.order import Draw
from shards.payload import READ_SOUND, read_posterior
from shards.store import REMEDY, DamagedShard, Store

ROWS_AT_ONCE = 4  # of a batch, by one thread


class BatchReader:
    """Iterates over batches in the order of `draws`, as many ahead as `ring` has buffers.

    A batch belongs to the consumer until it is given back by `release`; without that its buffer is never filled again.
    A damaged shard or clip raises DamagedShard from `next`, after which the reader is closed.
    """

    def __init__(
        self, catalog: Catalog, draws: Iterable[Draw], ring: Sequence[Batch], store: Store, *, threads: int = 4
    ) -> None:
        self._catalog, self._draws, self._store = catalog, iter(draws), store
        self._idle = deque(ring)
        self._under_way: deque[tuple[Draw, Batch, list[Future[None]]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._closed = False
        self._wanted: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self._fill_idle()
        if not self._under_way:
            if self._idle and not self._closed:
                raise StopIteration
            raise RuntimeError(
                "the reader is closed" if self._closed else "all batches are handed out: release one first"
            )
        draw, batch, rows = self._under_way.popleft()
        try:
            for future in rows:
                future.result()
        except BaseException:
            self.close()
            raise
        self._want(draw)
        return batch

    def release(self, batch: Batch) -> None:
        """Give a batch back; its buffers are filled anew at once."""
        self._idle.append(batch)
        self._fill_idle()

    def close(self) -> None:
        """Stop all threads; afterwards nothing writes into the ring any more. The store is closed as well."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        self._under_way.clear()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fill_idle(self) -> None:
        while self._idle and not self._closed and (draw := next(self._draws, None)) is not None:
            batch = self._idle.popleft()
            if len(draw.clips) > batch.rows:
                raise ValueError(f"{len(draw.clips)} clips are drawn for a batch of {batch.rows} rows")
            if not self._wanted:
                self._want(draw)
            batch.clips, batch.position, batch.consumed = draw.clips, draw.position, draw.consumed
            starts = range(0, batch.rows, ROWS_AT_ONCE)
            self._under_way.append(
                (draw, batch, [self._pool.submit(self._fill_rows, batch, start) for start in starts])
            )

    def _want(self, draw: Draw) -> None:
        if draw.shards_ahead != self._wanted:
            self._wanted = draw.shards_ahead
            pairs = ((self._catalog.sounds[shard], self._catalog.labels[shard]) for shard in self._wanted)
            self._store.want([tar for pair in pairs for tar in pair])

    def _fill_rows(self, batch: Batch, start: int) -> None:
        for row in range(start, min(start + ROWS_AT_ONCE, batch.rows)):
            if row < batch.count:
                self._fill_row(batch, row, int(batch.clips[row]))
            else:
                _clear_row(batch, row, samples=0, windows=0)

    def _fill_row(self, batch: Batch, row: int, clip: int) -> None:
        catalog = self._catalog
        shard, samples, windows = int(catalog.shard[clip]), int(catalog.samples[clip]), int(catalog.windows[clip])
        sound, labels = self._store.open(catalog.sounds[shard]), self._store.open(catalog.labels[shard])
        _clear_row(batch, row, samples=samples, windows=windows)
        tar, member = catalog.sounds[shard], catalog.audio
        try:
            place = catalog.sound_places[clip].tolist()
            READ_SOUND[catalog.audio](sound.descriptor, place, batch.waveform[row, :samples], catalog.clip.sample_rate)
            tar = catalog.labels[shard]
            for head, places in catalog.posterior_places.items():
                member = f"{head}.npy"
                read_posterior(labels.descriptor, places[clip].tolist(), batch.posteriors[head][row, :windows])
        except (DamagedExample, OSError) as error:
            raise DamagedShard(f"{tar.location}: {catalog.keys[clip]}.{member}: {error}. {REMEDY}") from None


def _clear_row(batch: Batch, row: int, *, samples: int, windows: int) -> None:
    """Set a row's lengths, and zero what the clip does not fill."""
    batch.lengths[row], batch.windows[row] = samples, windows
    batch.waveform[row, samples:] = 0
    for posterior in batch.posteriors.values():
        posterior[row, windows:] = 0
