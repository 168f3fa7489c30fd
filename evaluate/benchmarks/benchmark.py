"""A benchmark: labelled recordings, the folds they are tested in, and how long the excerpts are that get classified."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.cli.words import amount
from shards.errors import UserError
from shards.files import sha256_of

INNER_FOLDS = 5  # of a training set that brings no folds of its own
MULTILABEL = "fsd50k"  # the layout whose recordings have several classes each


@dataclass
class BenchmarkSpec:
    """A file of conf/benchmark/: what a data set must look like, and the lengths the paper uses for it (section 4)."""

    name: str  # name of the benchmark, in scores and file names
    layout: str  # how it lies on disk: esc, urbansound8k, dcase2013, tut, fsd50k or folder
    seconds: float  # length that recordings are repeated to where they are shorter
    window_seconds: float  # length of one excerpt
    classes: list[str] = field(default_factory=list)  # its classes; empty: whatever is found
    folds: list[str] = field(default_factory=list)  # its folds; empty: whatever is found
    # folds that are tested, each after training on the others; empty: every fold
    tested: list[str] = field(default_factory=list)
    recordings: int | None = None  # recordings of it; null: any number
    per_class: int | None = None  # recordings of each class in each fold; null: any number
    min_seconds: float = 0.0  # a recording shorter than this is taken for a damaged one
    source: str = ""  # where to get it, for the line that says it is not there

    def __post_init__(self) -> None:
        if not 0 < self.window_seconds <= self.seconds:
            raise ValueError(
                f"benchmark.window_seconds={self.window_seconds:g} must be above 0 and at most "
                f"benchmark.seconds={self.seconds:g}"
            )

    @property
    def multilabel(self) -> bool:
        """Whether a recording may have several classes: then mean average precision is measured, and not accuracy."""
        return self.layout == MULTILABEL


@dataclass(frozen=True)
class Recording:
    """One file with its class and fold. `name` is unique, and says where it lies below the benchmark's root.

    Recordings of one `group` are takes of one source: they are never parted. Empty: a source of its own.
    """

    path: Path
    name: str
    label: int
    fold: str
    group: str = ""
    left_out: frozenset[str] = frozenset()  # tested folds whose training set it is not in
    others: tuple[int, ...] = ()  # its further classes, of multi-label data

    @property
    def source(self) -> str:
        return self.group or f"\0{self.name}"  # which no group is called

    @property
    def digest(self) -> str:
        """The first half of the sha256 of the file's bytes: a recording is known by it, whatever it is called."""
        return sha256_of(self.path)[:32]


@dataclass(frozen=True)
class Split:
    """One classifier's training and test recordings, as indices; `inner` gives each training recording a fold for C.

    A recording of inner fold -1 is always learned from, as those of `train` are where there is a `val`.
    """

    tested: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    inner: NDArray[np.int64]  # (len(train),)


@dataclass(frozen=True)
class Benchmark:
    """Recordings in a fixed order. Each of the folds in `tested` is classified after training on all the others."""

    spec: BenchmarkSpec
    classes: tuple[str, ...]
    recordings: tuple[Recording, ...]
    tested: tuple[str, ...]
    dealt: bool = False  # the folds were dealt here, and are not the data's own

    @property
    def grouping(self) -> str:
        """What is known of takes of one source, in words: a result without it may be too good."""
        groups = {recording.group for recording in self.recordings if recording.group}
        alone = sum(not recording.group for recording in self.recordings)
        if groups:
            others = f"; {amount(alone, 'recording has', many='recordings have')} none" if alone else ""
            return f"{amount(len(groups), 'group')}, each on one side of every split{others}"
        if not self.dealt:
            return "no groups; the folds are the data's own"
        return (
            "no groups: takes of one source may be on both sides of a split, which makes results too good (name them "
            "by sub-folders, or by a column group)"
        )

    @property
    def labels(self) -> NDArray[np.int64]:
        """(recordings,). Raises UserError for multi-label data, which have no one class each."""
        if self.spec.multilabel:
            raise UserError(f"{self.spec.name} has several classes a recording: only `python -m evaluate` takes these")
        return np.array([recording.label for recording in self.recordings])

    @property
    def targets(self) -> NDArray[np.int64] | NDArray[np.bool_]:
        """What classifiers learn: the labels, or of multi-label data (recordings, classes), whether each has each."""
        if not self.spec.multilabel:
            return self.labels
        found = np.zeros((len(self.recordings), len(self.classes)), bool)
        for index, recording in enumerate(self.recordings):
            found[index, [recording.label, *recording.others]] = True
        return found

    @property
    def folds(self) -> NDArray[np.str_]:
        return np.array([recording.fold for recording in self.recordings])

    def splits(self) -> list[Split]:
        """One per tested fold, in order."""
        return [self._split(tested) for tested in self.tested]

    def _split(self, tested: str) -> Split:
        (test,) = np.nonzero(self.folds == tested)
        (train,) = np.nonzero([each.fold != tested and tested not in each.left_out for each in self.recordings])
        names, inner = np.unique(self.folds[train], return_inverse=True)
        if len(names) < 2:  # DCASE has one training set
            inner = stratified(self.labels[train], INNER_FOLDS, [self.recordings[index].source for index in train])
        elif names.tolist() == ["train", "val"]:
            inner = np.where(self.folds[train] == "val", 0, -1)
        return Split(tested, train, test, inner)

    def restricted(self, folds: Sequence[str]) -> Benchmark:
        """The same with only these folds tested. Raises UserError for one that is none of the tested folds."""
        for fold in folds:
            if fold not in self.tested:
                raise UserError(f"folds={fold}: {self.spec.name} tests the folds {', '.join(self.tested)}")
        return replace(self, tested=tuple(folds))


def stratified(labels: NDArray[np.int64], folds: int, sources: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """Fold numbers (recordings,): those of each class are dealt out in turn, with all of their source together.

    The largest sources first; each goes to the fold that has least of its classes.
    """
    members: dict[Hashable, list[int]] = {}
    for index, source in enumerate(range(len(labels)) if sources is None else sources):
        members.setdefault(source, []).append(index)
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)  # class -> fold -> recordings
    dealt = np.empty(len(labels), np.int64)
    for own in sorted(members.values(), key=len, reverse=True):
        classes = set(labels[own].tolist())
        fold = min(range(folds), key=lambda each: sum(counts[label][each] for label in classes))
        dealt[own] = fold
        for label in labels[own].tolist():
            counts[label][fold] += 1
    return dealt
