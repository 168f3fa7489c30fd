"""Sources stay whole: on one side of every split, and together when pairs are shuffled."""

from __future__ import annotations

from collections import Counter

import numpy as np

from evaluate.probe.evidence.splits import Split, folds, halves, shuffled

SOURCES = np.random.default_rng(0).permutation(np.repeat(np.arange(23), np.arange(23) % 4 + 1))  # 1 to 4 clips each


def require_apart(split: Split) -> None:
    assert not set(SOURCES[split.learned]) & set(SOURCES[split.tested])
    for inner in split.inner:
        require_apart(inner)
        assert sorted([*inner.learned, *inner.tested]) == sorted(split.learned)


def test_folds_test_every_clip_once_and_part_no_source() -> None:
    found = folds(SOURCES)
    assert len(found) == 5 and all(len(split.inner) == 5 for split in found)
    assert sorted(np.concatenate([split.tested for split in found])) == list(range(len(SOURCES)))
    for split in found:
        require_apart(split)
        assert sorted([*split.learned, *split.tested]) == list(range(len(SOURCES)))


def test_halves_are_the_shards_own() -> None:
    is_tested = SOURCES >= 15
    (split,) = halves(SOURCES, is_tested)
    require_apart(split)
    assert np.array_equal(split.tested, np.flatnonzero(is_tested))
    assert sorted(np.concatenate([inner.tested for inner in split.inner])) == np.flatnonzero(~is_tested).tolist()


def test_a_source_gets_the_posteriors_of_one_other_in_order() -> None:
    swapped = SOURCES < 15
    seen = []
    for seed in range(50):
        taken = shuffled(SOURCES, swapped, seed)
        assert np.array_equal(taken[~swapped], np.flatnonzero(~swapped))
        givers = {}
        for source in range(15):
            theirs = taken[source == SOURCES]
            (givers[source],) = set(SOURCES[theirs].tolist())
            assert (np.diff(theirs) >= 0).all()
        assert sorted(givers.values()) == list(range(15))  # each gives once
        seen.append(givers[3])
    assert len(Counter(seen)) > 9  # any of 15
    assert np.array_equal(shuffled(SOURCES, swapped, 7), shuffled(SOURCES, swapped, 7))
