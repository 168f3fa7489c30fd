"""Reading by WebDataset itself: its pipeline over pipes or URLs fills the same batches as our reader.

For storage that fsspec does not reach, and to compare with. Shards are read from end to end through a shuffle buffer:
a position cannot be resumed exactly, and another teacher set cannot be joined.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import webdataset
from webdataset.shardlists import expand_urls

from shards.errors import UserError
from shards.format.members import DamagedExample, decode
from shards.format.shard import DamagedShard
from shards.loader.batch import Batch, PrefetchRing
from shards.loader.catalog import Catalog

SHUFFLE_CLIPS = 1000  # of 0.9 MB each


class WebDatasetReader(PrefetchRing):
    """One rank's share of each global `batch`, without end. Its batches hold -1 for clips: WebDataset gives no numbers.

    `urls` is what WebDataset takes: names with braces, `pipe:` commands; the catalog's own tars if None. `next` raises
    DamagedShard, or whatever WebDataset raises where it cannot read.
    """

    def __init__(
        self,
        catalog: Catalog,
        buffers: Sequence[Batch],
        *,
        seed: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
        position: int = 0,
        urls: str | Sequence[str] | None = None,
        shuffle_clips: int = SHUFFLE_CLIPS,
    ) -> None:
        super().__init__(buffers)
        if catalog.labels != catalog.sounds:
            raise UserError(
                f"reader=webdataset reads the labels inside the shards, not teacher set {catalog.teacher_set}: "
                "leave out teacher_set or reader"
            )
        if catalog.left_out:
            raise UserError("reader=webdataset reads every clip of a shard: leave out keep or reader")
        tars = _tars(catalog, urls)
        if len(tars) < world or batch % world:
            raise UserError(
                f"{world} ranks cannot share {len(tars)} shards and batches of {batch} clips: each rank needs a "
                "shard of its own, and batch must be a multiple of the ranks"
            )
        self._catalog, self._batch, self._rows_before = catalog, batch, batch // world * rank
        self._starts = itertools.count(position, batch)
        self._samples = _stream(tars[rank::world], seed=seed + position, shuffle_clips=shuffle_clips)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webdataset")  # there is one stream to read

    def _start(self, batch: Batch) -> list[Future[None]]:
        start = next(self._starts)
        batch.position, batch.consumed = start + self._rows_before, start + self._batch
        batch.clips = np.full(batch.rows, -1)
        return [self._thread.submit(self._fill, batch)]

    def _stop(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._samples.close()

    def _fill(self, batch: Batch) -> None:
        for row in range(batch.rows):
            _put(next(self._samples), self._catalog, batch, row)


class WebDatasetScan(PrefetchRing):
    """One rank's share of the clips of a catalog, each once: those of every `world`th of the tars that `urls` names.

    Raises as `WebDatasetReader` does. What the tars hold beside the catalog's clips is passed over.
    """

    def __init__(
        self, catalog: Catalog, buffers: Sequence[Batch], *, rank: int = 0, world: int = 1, urls: str | None = None
    ) -> None:
        super().__init__(buffers)
        self._catalog = catalog
        self._numbers = {str(key): number for number, key in enumerate(catalog.keys)}
        self._samples: Iterator[dict[str, Any]] = iter(())
        if tars := _tars(catalog, urls)[rank::world]:
            self._samples = iter(
                webdataset.WebDataset(tars, shardshuffle=False, nodesplitter=None, workersplitter=None)
            )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webdataset")
        self._ended = False

    def _start(self, batch: Batch) -> list[Future[None]] | None:
        return None if self._ended else [self._thread.submit(self._fill, batch)]

    def _stop(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _fill(self, batch: Batch) -> None:
        ours = (sample for sample in self._samples if sample["__key__"] in self._numbers)
        samples = list(itertools.islice(ours, batch.rows))
        self._ended = len(samples) < batch.rows
        batch.clips = np.array([self._numbers[sample["__key__"]] for sample in samples], np.int64)
        for row in range(batch.rows):
            if row < len(samples):
                _put(samples[row], self._catalog, batch, row)
            else:
                batch.clear_row(row, samples=0, windows=0)


def _tars(catalog: Catalog, urls: str | Sequence[str] | None) -> list[str]:
    """The names of tars in `urls`, or the catalog's own."""
    return expand_urls(urls) if isinstance(urls, str) else list(urls or [tar.location for tar in catalog.sounds])


def _stream(tars: list[str], *, seed: int, shuffle_clips: int) -> Generator[dict[str, Any]]:
    """Samples without end, as WebDataset hands them out: {"__key__": ..., extension: bytes}."""
    dataset = webdataset.WebDataset(
        tars, shardshuffle=len(tars), detshuffle=True, seed=seed, nodesplitter=None, workersplitter=None
    )
    yield from dataset.shuffle(shuffle_clips, initial=shuffle_clips, seed=seed).repeat()


def _put(sample: dict[str, Any], catalog: Catalog, batch: Batch, row: int) -> None:
    """A clip as WebDataset hands it out, in a row of a batch. Raises DamagedShard."""
    members = {name: data for name, data in sample.items() if not name.startswith("__")}
    try:
        example = decode(sample["__key__"], members, catalog.clip.sample_rate)
        samples, windows = len(example.waveform), len(next(iter(example.posteriors.values())))
        wanted = {head: (windows, posterior.shape[2]) for head, posterior in batch.posteriors.items()}
        found = {head: example.posteriors[head].shape for head in wanted if head in example.posteriors}
        if found != wanted or samples > catalog.clip.samples or windows > catalog.clip.windows:
            raise DamagedExample(f"{example.key}: {samples} samples and posteriors {found} do not fit the manifest")
    except DamagedExample as error:
        raise DamagedShard(f"{sample['__url__']}: {error}") from None
    batch.clear_row(row, samples=samples, windows=windows)
    batch.waveform[row, :samples] = example.waveform
    for head, posterior in batch.posteriors.items():
        posterior[row, :windows] = example.posteriors[head]
