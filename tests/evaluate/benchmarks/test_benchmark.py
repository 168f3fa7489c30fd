"""Splits: no recording is on both sides, every one is tested once, and inner folds stay inside the training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording, stratified
from shards.errors import UserError


def benchmark(folds: list[str], tested: tuple[str, ...]) -> Benchmark:
    recordings = [Recording(Path(str(index)), str(index), index % 3, fold) for index, fold in enumerate(folds)]
    return Benchmark(BenchmarkSpec("b", "folder", 1, 1), ("x", "y", "z"), tuple(recordings), tested)


def test_every_recording_is_tested_once() -> None:
    splits = benchmark(["1", "2", "3"] * 6, ("1", "2", "3")).splits()
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(18))
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert len(split.train) + len(split.test) == 18


def test_inner_folds_are_the_benchmarks_own() -> None:
    given = benchmark(["1", "2", "3"] * 6, ("1", "2", "3"))
    split = given.splits()[1]
    for inner in np.unique(split.inner):
        assert len(set(given.folds[split.train[split.inner == inner]])) == 1
    assert len(np.unique(split.inner)) == 2


def test_a_single_training_set_is_dealt_out_by_class() -> None:
    given = benchmark(["train"] * 30 + ["test"] * 3, ("test",))
    (split,) = given.splits()
    assert np.bincount(split.inner).tolist() == [6] * 5
    for inner in range(5):
        assert np.bincount(given.labels[split.train[split.inner == inner]]).tolist() == [2, 2, 2]


def test_dealing_out_keeps_classes_even() -> None:
    labels = np.array([0] * 7 + [1] * 3)
    assert stratified(labels, 3).tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2]


def test_dealing_out_parts_no_source_and_keeps_classes_even() -> None:
    """200 recordings of 5 classes and 70 sources of 1 to 6 takes; some sources have recordings of two classes."""
    random = np.random.default_rng(0)
    sources = random.permutation(np.repeat(np.arange(70), np.resize([1, 2, 3, 6, 2], 70)))
    labels = (sources + (random.random(len(sources)) < 0.2)) % 5
    dealt = stratified(labels, 5, sources.tolist())
    assert all(len(set(dealt[sources == source])) == 1 for source in range(70))
    for label in range(5):
        counts = np.bincount(dealt[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 6  # takes of the largest source
    assert stratified(labels, 5).tolist() == stratified(labels, 5, list(range(len(labels)))).tolist()


def test_only_tested_folds_can_be_asked_for() -> None:
    given = benchmark(["1", "2", "3"] * 2, ("1", "2", "3"))
    assert [split.tested for split in given.restricted(["2"]).splits()] == ["2"]
    with pytest.raises(UserError, match=r"folds=4: b tests the folds 1, 2, 3"):
        given.restricted(["4"])


def test_windows_longer_than_the_recordings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"window_seconds=2 must be above 0 and at most benchmark\.seconds=1"):
        BenchmarkSpec("b", "folder", 1, 2)
