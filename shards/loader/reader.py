"""The reader: threads move the bytes of the clips drawn straight into the rows of batches, ahead of the training loop.

Every clip is compared with its checksum. One that differs stops the stream, or its row is given to another clip: which
one follows from the bytes on disk and the place in the stream, so threads, ranks and resuming change nothing.

Threads wait for the disk and copy; system calls and flac decoding release Python's lock, so no processes are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from shards.format.codec import DamagedExample, checksum
from shards.format.payload import READ_SOUND, read_posterior
from shards.format.shard import REMEDY_OR_SKIP, DamagedShard
from shards.loader.batch import Batch, BatchStream, Skip
from shards.loader.catalog import Catalog
from shards.loader.order import BatchIndices
from shards.loader.store import OpenTar, Tar, TarPool

Instead = Callable[[int], Iterator[int]]  # position in the stream -> the clips to read instead of a bad one, in turn
OpenTars = Mapping[Tar, Future[OpenTar]]  # open, or about to be
ROWS_AT_ONCE = 4  # of a batch, by one thread


class BatchReader(BatchStream):
    """The batches of `draws`, read from the tars of a catalog.

    `next` raises DamagedShard, naming shard and key. With `instead`, a bad clip is noted in `batch.skipped` and its row
    filled with the first good one of these; where they end without one, the row stays empty.
    """

    def __init__(
        self,
        catalog: Catalog,
        draws: Iterable[BatchIndices],
        ring: Sequence[Batch],
        store: TarPool,
        *,
        threads: int = 4,
        instead: Instead | None = None,
    ) -> None:
        super().__init__(ring)
        self._instead = instead
        self._catalog, self._draws, self._store = catalog, iter(draws), store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._shards_ahead: tuple[int, ...] = ()

    def _start(self, batch: Batch) -> list[Future[None]] | None:
        draw = next(self._draws, None)
        if draw is None:
            return None
        if len(draw.clips) > batch.rows:
            raise ValueError(f"{len(draw.clips)} clips are drawn for a batch of {batch.rows} rows")
        batch.clips, batch.position, batch.consumed, batch.skipped = draw.clips, draw.position, draw.consumed, []
        self._look_ahead(draw)
        # A batch under way keeps its tars open, even where the next batch has moved on to other blocks.
        shards = set(self._catalog.shard[draw.clips].tolist())
        tars = {tar: self._store.ask(tar) for shard in shards for tar in self._tars_of(shard)}
        starts = range(0, batch.rows, ROWS_AT_ONCE)
        return [self._pool.submit(self._fill_rows, batch, start, tars) for start in starts]

    def _stop(self) -> None:
        self._store.close()  # first: threads of ours may be waiting for what it has not fetched yet
        self._pool.shutdown(cancel_futures=True)

    def _look_ahead(self, draw: BatchIndices) -> None:
        if draw.shards_ahead != self._shards_ahead:
            self._shards_ahead = draw.shards_ahead
            self._store.want([tar for shard in draw.shards_ahead for tar in self._tars_of(shard)])

    def _tars_of(self, shard: int) -> tuple[Tar, Tar]:
        return self._catalog.sounds[shard], self._catalog.labels[shard]

    def _fill_rows(self, batch: Batch, start: int, tars: OpenTars) -> None:
        for row in range(start, min(start + ROWS_AT_ONCE, batch.rows)):
            if row >= batch.count:
                batch.clear_row(row, samples=0, windows=0)
                continue
            try:
                self._fill_row(batch, row, int(batch.clips[row]), tars)
            except DamagedShard as error:
                if self._instead is None:
                    raise
                batch.skipped.append(Skip(row, int(batch.clips[row]), str(error)))
                self._fill_instead(batch, row, self._instead(batch.position + row), tars)

    def _fill_instead(self, batch: Batch, row: int, clips: Iterator[int], tars: OpenTars) -> None:
        for clip in clips:
            with suppress(DamagedShard):
                self._fill_row(batch, row, clip, tars)
                batch.clips[row] = clip
                return
        batch.clear_row(row, samples=0, windows=0)

    def _fill_row(self, batch: Batch, row: int, clip: int, tars: OpenTars) -> None:
        catalog, key = self._catalog, self._catalog.keys[clip]
        samples, windows = int(catalog.samples[clip]), int(catalog.windows[clip])
        batch.clear_row(row, samples=samples, windows=windows)
        sounds, labels = self._tars_of(catalog.shard[clip])
        opened, place = self._opened(sounds, tars), catalog.sound_places[clip].tolist()
        with _blaming(sounds, f"{key}.{catalog.audio}"):
            sound = batch.waveform[row, :samples]
            READ_SOUND[catalog.audio](opened.descriptor, place, sound, catalog.clip.sample_rate)
            _require(sound, catalog.sound_checksums[clip])
        opened = self._opened(labels, tars)
        for head, places in catalog.posterior_places.items():
            with _blaming(labels, f"{key}.{head}.npy"):
                posterior = batch.posteriors[head][row, :windows]
                read_posterior(opened.descriptor, places[clip].tolist(), posterior)
                _require(posterior, catalog.posterior_checksums[head][clip])

    def _opened(self, tar: Tar, tars: OpenTars) -> OpenTar:
        return (tars.get(tar) or self._store.ask(tar)).result()


def _require(array: NDArray[np.generic], expected: np.uint32) -> None:
    if (found := checksum(array)) != expected:
        raise DamagedExample(f"its checksum is {found:08x}, its side file says {expected:08x}")


@contextmanager
def _blaming(tar: Tar, member: str) -> Iterator[None]:
    """Say in which shard and member the bytes at fault lie."""
    try:
        yield
    except (DamagedExample, OSError) as error:
        raise DamagedShard(f"{tar.location}: {member}: {error}. {REMEDY_OR_SKIP}") from None
