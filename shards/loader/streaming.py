"""How shards are streamed: the settings, and the reader that training or validation draws its batches from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError, given
from shards.format.shard import REMEDY, DamagedShard
from shards.loader.batch import Batch, PrefetchRing
from shards.loader.catalog import Catalog
from shards.loader.index import require_there
from shards.loader.order import BLOCK_SHARDS, BatchIndices, Order, sequential_indices, training_indices
from shards.loader.reader import BatchReader, Substitutes
from shards.loader.tars.cache import Cache
from shards.loader.tars.store import TarPool
from shards.loader.webdataset_reader import WebDatasetReader, WebDatasetScan
from shards.storage import is_remote


@dataclass(frozen=True)
class Streaming:
    """How clips come from disk or network. Only `reader` and `block_shards` change which clips a step is taken on.

    Every clip is compared with its checksum when it is first read, whatever is set here (not so by reader=webdataset).
    """

    # what reads the shards: our own reader (direct), or the package webdataset
    reader: Literal["direct", "webdataset"] = "direct"
    urls: str | None = None  # for reader=webdataset: names with braces, `pipe:` commands; null: the tars of `shards`
    validation_urls: str | None = None  # the same, for the clips held out
    threads: int = 4  # threads that read
    prefetch: int = 4  # batches read ahead
    block_shards: int = BLOCK_SHARDS  # shards whose clips are shuffled among each other
    verify: bool = False  # compare each shard with its hash when it is first opened; what is fetched always is
    # where a shard is not as it was written: stop, or skip its clips, named and counted
    on_bad_shard: Literal["stop", "skip"] = "stop"
    cache: Path = Path("outputs/cache")  # folder for shards that are fetched from a URL
    cache_gigabytes: float = 50.0  # size that this folder may grow to

    def __post_init__(self) -> None:
        if self.threads < 1 or self.prefetch < 1 or self.block_shards < 1 or self.cache_gigabytes <= 0:
            values = given(self, "threads", "prefetch", "block_shards", "cache_gigabytes")
            raise ValueError(
                f"threads, prefetch, block_shards and cache_gigabytes of streaming are above 0, not {values}"
            )
        if (self.urls or self.validation_urls) and self.reader != "webdataset":
            raise ValueError("streaming.urls and validation_urls are for streaming.reader=webdataset alone")
        if self.on_bad_shard == "skip" and self.reader == "webdataset":
            raise ValueError("streaming.on_bad_shard=skip is for streaming.reader=direct alone")


def training_reader(
    catalog: Catalog,
    buffers: Sequence[Batch],
    settings: Streaming,
    *,
    seed: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    position: int = 0,
) -> PrefetchRing:
    """An endless stream of one rank's share of each global `batch`, from `position` on. Raises UserError."""
    if not catalog.clips:
        raise UserError(f"{catalog.location} holds no clip of split {catalog.split}: nothing to train on")
    place = {"batch": batch, "rank": rank, "world": world, "position": position}
    if settings.reader == "webdataset":
        return WebDatasetReader(catalog, buffers, seed=seed, urls=settings.urls, **place)
    order = Order(catalog.shard_clips, seed=seed, block_shards=settings.block_shards)

    def substitutes(position: int) -> Iterator[int]:
        yield from order.after(position)
        raise DamagedShard(f"no clip of {catalog.location} can be read, though there are {catalog.clips}. {REMEDY}")

    return _direct(catalog, training_indices(order, **place), buffers, settings, substitutes)


def sequential_reader(
    catalog: Catalog, buffers: Sequence[Batch], settings: Streaming, *, rank: int = 0, world: int = 1
) -> PrefetchRing:
    """A stream of every clip once, as for validation, in the order of the catalog or of `validation_urls`.

    The rows of clips that are left out stay empty. Raises UserError.
    """
    if settings.validation_urls is not None:
        return WebDatasetScan(catalog, buffers, rank=rank, world=world, urls=settings.validation_urls)
    rows, shards = buffers[0].rows, settings.block_shards
    indices = sequential_indices(catalog.shard_clips, batch=rows, rank=rank, world=world, block_shards=shards)
    return _direct(catalog, indices, buffers, settings, lambda position: iter(()))


def _direct(
    catalog: Catalog,
    indices: Iterable[BatchIndices],
    buffers: Sequence[Batch],
    settings: Streaming,
    substitutes: Substitutes,
) -> BatchReader:
    tars = list(dict.fromkeys([*catalog.sounds, *catalog.labels]))
    skipping = settings.on_bad_shard == "skip"
    if not skipping:
        require_there(tar.location for tar in tars)
    open_remote = None
    if is_remote(catalog.location):
        cache = Cache(settings.cache, int(settings.cache_gigabytes * 1e9))
        cache.require_room(tars, at_once=2 * settings.block_shards * len(tars) // max(len(catalog.sounds), 1))
        open_remote = cache.open
    pool = TarPool(verify=settings.verify, open_remote=open_remote)
    return BatchReader(
        catalog, indices, buffers, pool, threads=settings.threads, substitutes=substitutes if skipping else None
    )
