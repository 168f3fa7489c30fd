from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.loader.order import BatchIndices, Order, sequential_indices, training_indices

SHARD_CLIPS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
SEED = st.integers(0, 2**63)
BLOCK = st.integers(1, 5)


@given(SHARD_CLIPS, SEED, BLOCK, st.integers(0, 5))
def test_every_epoch_is_a_permutation(shard_clips: list[int], seed: int, block: int, epoch: int) -> None:
    order = Order(shard_clips, seed=seed, block_shards=block)
    clips = order.take(epoch * order.clips, order.clips)
    assert sorted(clips) == list(range(sum(shard_clips)))


@given(SHARD_CLIPS, SEED, BLOCK, st.integers(0, 40), st.lists(st.integers(0, 30), max_size=5))
def test_any_position_resumes_the_same_stream(
    shard_clips: list[int], seed: int, block: int, start: int, steps: list[int]
) -> None:
    undisturbed = Order(shard_clips, seed=seed, block_shards=block).take(0, start + sum(steps))
    position, pieces = start, []
    for step in steps:  # every step by a process of its own
        pieces += Order(shard_clips, seed=seed, block_shards=block).take(position, step).tolist()
        position += step
    assert pieces == undisturbed[start:].tolist()


@given(SHARD_CLIPS, SEED, BLOCK, st.integers(1, 4), st.integers(1, 4), st.integers(0, 25))
def test_ranks_together_draw_the_single_stream(
    shard_clips: list[int], seed: int, block: int, world: int, share: int, position: int
) -> None:
    batch = world * share

    def draws(rank: int, world: int) -> Iterator[BatchIndices]:
        order = Order(shard_clips, seed=seed, block_shards=block)
        return islice(training_indices(order, batch=batch, rank=rank, world=world, position=position), 6)

    alone = [draw.clips.tolist() for draw in draws(0, 1)]
    steps = zip(*(draws(rank, world) for rank in range(world)), strict=True)
    together = [[clip for draw in step for clip in draw.clips] for step in steps]
    assert together == alone
    assert [draw.consumed for draw in draws(0, world)] == [position + batch * (step + 1) for step in range(6)]
    assert [draw.position for draw in draws(world - 1, world)] == [position + batch * (s + 1) - share for s in range(6)]


@given(SHARD_CLIPS, SEED, BLOCK)
def test_clips_come_from_the_shards_announced_first(shard_clips: list[int], seed: int, block: int) -> None:
    order = Order(shard_clips, seed=seed, block_shards=block)
    shard_of = np.repeat(np.arange(len(shard_clips)), shard_clips)
    for position in range(2 * order.clips):
        ahead = order.shards_ahead(position)
        assert len(ahead) <= 2 * block
        assert shard_of[order.take(position, 1)[0]] in ahead[:block]


def test_the_next_block_is_announced_across_the_end_of_an_epoch() -> None:
    order = Order([3, 3, 3, 3], seed=5, block_shards=2)
    next_block = {int(clip) // 3 for clip in order.take(12, 6)}
    assert next_block <= set(order.shards_ahead(11))


def test_epochs_and_seeds_differ_and_clips_of_a_shard_are_scattered() -> None:
    order, other = Order([100] * 8, seed=1, block_shards=4), Order([100] * 8, seed=2, block_shards=4)
    first, second = order.take(0, 800), order.take(800, 800)
    assert (first != second).mean() > 0.9 and (first != other.take(0, 800)).mean() > 0.9
    shards = first[:400] // 100
    assert len(set(shards)) == 4 and (np.diff(shards) != 0).mean() > 0.6  # 0.75 expected of a full shuffle


def test_the_order_is_this_one_forever() -> None:
    """A position saved in a checkpoint means the same in every later version."""
    assert Order([3, 2, 4], seed=7, block_shards=2).take(0, 18).tolist() == GOLDEN


GOLDEN = [6, 4, 7, 8, 3, 5, 2, 1, 0, 7, 6, 4, 3, 5, 8, 0, 2, 1]


def test_memory_is_constant_along_the_stream() -> None:
    order = Order([5] * 10, seed=0, block_shards=2)
    assert sorted(order.take(10**15 * 50, 50)) == list(range(50))


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="batch of 10 clips cannot be shared by 4 ranks"):
        training_indices(Order([5], seed=0), batch=10, world=4)


@given(SHARD_CLIPS, st.integers(1, 7), st.integers(1, 4))
def test_sequential_draws_visit_every_clip_once_in_order(shard_clips: list[int], batch: int, world: int) -> None:
    shares = [list(sequential_indices(shard_clips, batch=batch, rank=rank, world=world)) for rank in range(world)]
    assert [clip for share in shares for draw in share for clip in draw.clips] == list(range(sum(shard_clips)))
    sizes = [sum(len(draw.clips) for draw in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    shard_of = np.repeat(np.arange(len(shard_clips)), shard_clips)
    for draw in (draw for share in shares for draw in share):
        assert shard_of[draw.clips[0]] == draw.shards_ahead[0]
