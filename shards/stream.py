"""How shards are streamed: the settings, and the reader that training or validation draws its batches from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.batch import Batch
from shards.cache import Cache
from shards.catalog import Catalog
from shards.manifest import ContractError
from shards.order import BLOCK_SHARDS, Draw, Order, sequential_draws, training_draws
from shards.reader import BatchReader
from shards.store import Store, is_remote


@dataclass(frozen=True)
class Streaming:
    """None of these changes which clips are trained on in which order, but for `block_shards`."""

    threads: int = 4
    prefetch: int = 4  # batches read ahead
    block_shards: int = BLOCK_SHARDS  # shards whose clips are shuffled among each other
    verify: bool = False  # compare each shard with its hash when it is first opened; what is fetched always is
    cache: Path = Path("outputs/cache")  # for shards behind a URL
    cache_gigabytes: float = 50.0

    def __post_init__(self) -> None:
        if self.threads < 1 or self.prefetch < 1 or self.block_shards < 1 or self.cache_gigabytes <= 0:
            raise ValueError(
                f"streaming needs positive threads, prefetch, block_shards and cache_gigabytes, not {self}"
            )


def training_reader(
    catalog: Catalog,
    ring: Sequence[Batch],
    settings: Streaming,
    *,
    seed: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    position: int = 0,
) -> BatchReader:
    """An endless reader of one rank's share of each global `batch`, from `position` on. Raises ContractError."""
    if not catalog.clips:
        raise ContractError(f"{catalog.location} holds no clip of split {catalog.split}: nothing to train on")
    order = Order(catalog.shard_clips, seed=seed, block_shards=settings.block_shards)
    draws = training_draws(order, batch=batch, rank=rank, world=world, position=position)
    return _reader(catalog, draws, ring, settings)


def sequential_reader(
    catalog: Catalog, ring: Sequence[Batch], settings: Streaming, *, rank: int = 0, world: int = 1
) -> BatchReader:
    """A reader of every clip once, in order, as for validation. Raises ContractError."""
    rows, shards = ring[0].rows, settings.block_shards
    draws = sequential_draws(catalog.shard_clips, batch=rows, rank=rank, world=world, block_shards=shards)
    return _reader(catalog, draws, ring, settings)


def _reader(catalog: Catalog, draws: Iterable[Draw], ring: Sequence[Batch], settings: Streaming) -> BatchReader:
    open_remote = None
    if is_remote(catalog.location):
        cache = Cache(settings.cache, int(settings.cache_gigabytes * 1e9))
        tars = {*catalog.sounds, *catalog.labels}
        cache.require_room(tars, at_once=2 * settings.block_shards * (1 if catalog.labels == catalog.sounds else 2))
        open_remote = cache.open
    store = Store(verify=settings.verify, open_remote=open_remote)
    return BatchReader(catalog, draws, ring, store, threads=settings.threads)
