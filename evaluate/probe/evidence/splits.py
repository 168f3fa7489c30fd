"""Which clips are learned from and which are tested: whole sources, so that no video helps to guess itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Clips as indices. `inner` splits the learned ones again."""

    learned: Indices
    tested: Indices
    inner: tuple[Split, ...] = ()


def halves(sources: Indices, is_tested: NDArray[np.bool_]) -> list[Split]:
    """The shards' own splits: all clips that are not held out are learned from. `sources` (clips,) by number."""
    learned, tested = np.flatnonzero(~is_tested), np.flatnonzero(is_tested)
    return [Split(learned, tested, tuple(grouped(sources, learned)))]


def folds(sources: Indices) -> list[Split]:
    """Every source is tested once, after learning from the other folds."""
    every = np.arange(len(sources))
    return [
        Split(split.learned, split.tested, tuple(grouped(sources, split.learned))) for split in grouped(sources, every)
    ]


def grouped(sources: Indices, clips: Indices) -> list[Split]:
    """`clips` in FOLDS parts of whole sources, each tested once. Sources are dealt in an order drawn once for ever."""
    names, numbers = np.unique(sources[clips], return_inverse=True)
    turn = np.random.default_rng(0).permutation(len(names)) % FOLDS
    fold = turn[numbers]
    return [Split(clips[fold != each], clips[fold == each]) for each in np.unique(turn)]


def shuffled(sources: Indices, swapped: NDArray[np.bool_], seed: int) -> Indices:
    """(clips,): the clip whose posterior each clip gets where the `swapped` sources exchange theirs at random.

    A source gets all of its posteriors from one other (now and then its own), in their order, spread over its clips: so
    clips of one source stay as alike as they are, and what is broken is only that sound and posterior belong together.
    """
    taken = np.arange(len(sources))
    order = np.argsort(sources, kind="stable")
    order = order[swapped[order]]
    rows = np.split(order, np.flatnonzero(np.diff(sources[order])) + 1)
    for own, other in zip(rows, np.random.default_rng((1, seed)).permutation(len(rows)), strict=True):
        theirs = rows[other]
        taken[own] = theirs[np.arange(len(own)) * len(theirs) // len(own)]
    return taken
