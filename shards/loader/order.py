"""The order of training: one endless stream of seeded epochs, over blocks of shards, then over a block's clips.

The stream is a function of (seed, position), so a saved position resumes it exactly, whatever the number of threads or
ranks. Blocks keep reads local: at any time only the shards of one block, and soon of the next, are in use.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError

BLOCK_SHARDS = 16  # of 512 clips each: 8,192 clips are shuffled among each other, two blocks of 20 s clips take 14 GB


@dataclass(frozen=True)
class BatchIndices:
    """What one batch is made of: clips int64 (rows,) are indices into the catalog, row by row."""

    clips: NDArray[np.int64]
    position: int  # of the first row, in the stream; row i stands at position + i
    consumed: int  # clips of the stream, all ranks together, that lie behind us once this batch is trained on
    shards_ahead: tuple[int, ...]  # this block's shards and the next one's, in the order of need


@dataclass(frozen=True)
class _Epoch:
    shards: NDArray[np.int64]  # all of them, shuffled; each run of `block_shards` is a block
    block_first: NDArray[np.int64]  # (blocks + 1,), position within the epoch at which a block begins


class Order:
    """Clip indices of the endless stream; clips are numbered shard by shard.

    Memory is two epochs' shard lists and a few blocks' clips, however long the stream. Raises ValueError without clips.
    """

    def __init__(self, shard_clips: Sequence[int], *, seed: int, block_shards: int = BLOCK_SHARDS) -> None:
        self._clip_counts = np.asarray(shard_clips, np.int64)
        self._first = np.cumsum(self._clip_counts) - self._clip_counts
        self.clips = int(self._clip_counts.sum())
        if self.clips < 1 or block_shards < 1 or seed < 0:
            raise ValueError(
                f"an order needs clips, a block of shards and a seed >= 0: {self.clips=} {block_shards=} {seed=}"
            )
        self.seed, self.block_shards = seed, block_shards
        self._epoch = lru_cache(maxsize=2)(self._shuffle_shards)
        self._block = lru_cache(maxsize=4)(self._shuffle_block)

    def take(self, position: int, count: int) -> NDArray[np.int64]:
        """The clips at positions [position, position + count) of the stream, int64 (count,)."""
        parts = []
        while count > 0:
            epoch, block, within = self._locate(position)
            part = self._block(epoch, block)[within : within + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def after(self, position: int) -> Iterator[int]:
        """The clips that follow a position in the stream, until each has come at least once."""
        return (int(self.take(place, 1)[0]) for place in range(position + 1, position + 2 * self.clips))

    def shards_ahead(self, position: int) -> tuple[int, ...]:
        """The shards of the block at `position`, and those of the block after it, across the end of an epoch."""
        epoch, block, within = self._locate(position)
        after = self._locate(position - within + len(self._block(epoch, block)))
        return tuple(dict.fromkeys(self._shards_of(epoch, block) + self._shards_of(*after[:2])))

    def _locate(self, position: int) -> tuple[int, int, int]:
        epoch, offset = divmod(position, self.clips)
        block_first = self._epoch(epoch).block_first
        block = int(np.searchsorted(block_first, offset, side="right")) - 1
        return epoch, block, offset - int(block_first[block])

    def _shards_of(self, epoch: int, block: int) -> list[int]:
        start = block * self.block_shards
        return [int(shard) for shard in self._epoch(epoch).shards[start : start + self.block_shards]]

    def _shuffle_shards(self, epoch: int) -> _Epoch:
        shards = _permutation(len(self._clip_counts), self.seed, epoch)
        counts = self._clip_counts[shards]
        first = (np.cumsum(counts) - counts)[:: self.block_shards]
        return _Epoch(shards, np.append(first, self.clips))

    def _shuffle_block(self, epoch: int, block: int) -> NDArray[np.int64]:
        clips = np.concatenate(
            [np.arange(self._clip_counts[shard]) + self._first[shard] for shard in self._shards_of(epoch, block)]
        )
        return clips[_permutation(len(clips), self.seed, epoch, block)]


def training_indices(
    order: Order, *, batch: int, rank: int = 0, world: int = 1, position: int = 0
) -> Iterator[BatchIndices]:
    """The endless batches of one rank: of each global `batch` its contiguous share. Nothing is dropped or padded.

    Raises UserError where the ranks cannot share a batch evenly.
    """
    if batch < 1 or batch % world:
        raise UserError(
            f"a batch of {batch} clips cannot be shared by {world} ranks: set batch to a multiple of {world}"
        )
    share = batch // world

    before = rank * share  # rows of the ranks before this one
    return (
        BatchIndices(order.take(first, share), first, first - before + batch, order.shards_ahead(first))
        for first in itertools.count(position + before, batch)
    )


def sequential_indices(
    shard_clips: Sequence[int], *, batch: int, rank: int = 0, world: int = 1, block_shards: int = BLOCK_SHARDS
) -> Iterator[BatchIndices]:
    """Every clip once, in order, as for validation. Ranks differ by one clip at most; the last batch may be short."""
    ends = np.cumsum(np.asarray(shard_clips, np.int64))
    clips = int(ends[-1]) if len(ends) else 0
    stop = clips * (rank + 1) // world
    for start in range(clips * rank // world, stop, batch):
        rows = np.arange(start, min(start + batch, stop))
        shard = int(np.searchsorted(ends, start, side="right"))
        yield BatchIndices(rows, start, int(rows[-1]) + 1, tuple(range(shard, min(shard + block_shards, len(ends)))))


def sample(clips: int, count: int) -> NDArray[np.int64]:
    """`count` of so many clips, or all of them, in order: drawn once for ever, from all shards alike."""
    return np.sort(_permutation(clips, 0)[:count])


def _permutation(count: int, seed: int, *place: int) -> NDArray[np.int64]:
    # Ranks of raw bits, not Generator.permutation: numpy promises the former across versions, not the latter.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=place)).random_raw(count)
    return np.argsort(bits, kind="stable")
