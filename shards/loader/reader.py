"""The reader: threads read clips straight into the rows of batches, ahead of the training loop.

Every clip is compared with its checksum the first time that it is read. One that differs stops the stream, or its row
is given to another clip: which one follows from the bytes on disk and the position in the stream, so threads, ranks and
resuming change nothing.

Threads wait for the disk and copy; system calls and flac decoding release Python's lock, so no processes are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from shards.format.members import DamagedExample, checksum
from shards.format.payload import READ_SOUND, read_posterior
from shards.format.shard import REMEDY_OR_SKIP, DamagedShard
from shards.loader.batch import Batch, PrefetchRing, Skip
from shards.loader.catalog import Catalog
from shards.loader.order import BatchIndices
from shards.loader.tars.store import OpenTar, Tar, TarPool

Substitutes = Callable[[int], Iterator[int]]  # position in the stream -> clips to read instead of a damaged one
OpenTars = Mapping[Tar, Future[OpenTar]]  # open, or about to be
ROWS_AT_ONCE = 4  # of a batch, by one thread


class BatchReader(PrefetchRing):
    """The batches of `indices`, read from the tars of a catalog.

    `next` raises DamagedShard, naming shard and key. With `substitutes`, a damaged clip is noted in `batch.skipped` and
    its row filled with the first whole one of these; where they end without one, the row stays empty.
    """

    def __init__(
        self,
        catalog: Catalog,
        indices: Iterable[BatchIndices],
        buffers: Sequence[Batch],
        pool: TarPool,
        *,
        threads: int = 4,
        substitutes: Substitutes | None = None,
    ) -> None:
        super().__init__(buffers)
        self._catalog, self._indices, self._pool, self._substitutes = catalog, iter(indices), pool, substitutes
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._shards_ahead: tuple[int, ...] = ()
        self._compared = np.zeros(len(catalog.keys), bool)  # clips whose bytes were right: later epochs believe them

    def _start(self, batch: Batch) -> list[Future[None]] | None:
        indices = next(self._indices, None)
        if indices is None:
            return None
        if len(indices.clips) > batch.rows:
            raise ValueError(f"{len(indices.clips)} clips are drawn for a batch of {batch.rows} rows")
        batch.clips, batch.position, batch.consumed = indices.clips, indices.position, indices.consumed
        batch.skipped = []
        if indices.shards_ahead != self._shards_ahead:
            self._shards_ahead = indices.shards_ahead
            self._pool.prefetch([tar for shard in indices.shards_ahead for tar in self._tars_of(shard)])
        # A batch under way keeps its tars open, even where the next batch has moved on to other blocks.
        shards = set(self._catalog.shard[indices.clips].tolist())
        tars = {tar: self._pool.get(tar) for shard in shards for tar in self._tars_of(shard)}
        starts = range(0, batch.rows, ROWS_AT_ONCE)
        return [self._threads.submit(self._fill_rows, batch, start, tars) for start in starts]

    def _stop(self) -> None:
        self._pool.close()  # first: threads of ours may be waiting for what it has not fetched yet
        self._threads.shutdown(cancel_futures=True)

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
                if self._substitutes is None:
                    raise
                batch.skipped.append(Skip(row, int(batch.clips[row]), str(error)))
                self._fill_with_substitute(batch, row, self._substitutes(batch.position + row), tars)

    def _fill_with_substitute(self, batch: Batch, row: int, clips: Iterator[int], tars: OpenTars) -> None:
        for clip in clips:
            with suppress(DamagedShard):
                self._fill_row(batch, row, clip, tars)
                batch.clips[row] = clip
                return
        batch.clear_row(row, samples=0, windows=0)

    def _fill_row(self, batch: Batch, row: int, clip: int, tars: OpenTars) -> None:
        catalog = self._catalog
        samples, windows = int(catalog.samples[clip]), int(catalog.windows[clip])
        batch.clear_row(row, samples=samples, windows=windows)
        sounds, labels = self._tars_of(catalog.shard[clip])
        sound_file, label_file = self._opened(sounds, tars), self._opened(labels, tars)
        tar, member = sounds, catalog.audio  # what is being read
        try:
            sound = batch.waveform[row, :samples]
            place = catalog.sound_places[clip].tolist()
            READ_SOUND[catalog.audio](sound_file.descriptor, place, sound, catalog.clip.sample_rate)
            self._require(clip, sound, catalog.sound_checksums)
            tar = labels
            for head, places in catalog.posterior_places.items():
                member = f"{head}.npy"
                posterior = batch.posteriors[head][row, :windows]
                read_posterior(label_file.descriptor, places[clip].tolist(), posterior)
                self._require(clip, posterior, catalog.posterior_checksums[head])
        except (DamagedExample, OSError) as error:
            where = f"{tar.location}: {catalog.keys[clip]}.{member}"
            raise DamagedShard(f"{where}: {error}. {REMEDY_OR_SKIP}") from None
        self._compared[clip] = True

    def _require(self, clip: int, array: NDArray[np.generic], expected: NDArray[np.uint32]) -> None:
        if not self._compared[clip] and (found := checksum(array)) != expected[clip]:
            raise DamagedExample(f"its checksum is {found:08x}, its side file says {expected[clip]:08x}")

    def _opened(self, tar: Tar, tars: OpenTars) -> OpenTar:
        return (tars.get(tar) or self._pool.get(tar)).result()
