"""Classifiers of windows: the paper's one-vs-all linear SVMs (section 3.3), and Table 4's random forest.

`fit` learns the recordings' labels (recordings,) from their windows, or, where a recording may have several classes,
which it has, bool (recordings, classes); `inner` gives each recording a fold for C, -1 none.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from evaluate.probe.features.windows import Windows
from evaluate.probe.scores import Ranking
from train.device.threads import available_threads, side_by_side

Labels = NDArray[np.int64] | NDArray[np.bool_]
# The authors have 0.01; layers differ in scale by a hundred.
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Where liblinear stops its solver -s 2. Its -s 1, which the authors call, minimises the same from the dual side: with
# random numbers that threads would share, and to no end at C=1, where -s 2 needs 18 steps.
TOLERANCE = 0.01
MOST_STEPS = 1000
BYTES_PER_VALUE = 4 + 8 + 16  # ours, scikit-learn's and liblinear's copy of the windows that a thread learns from
MOST_BYTES = 8 << 30  # of these copies, in all threads


@dataclass(frozen=True)
class FittedClassifier:
    """`score` turns windows into scores (recordings, classes); the others are facts for the record.

    `remarks` say what is doubtful: a C at the grid's edge, a solver that came to no end.
    """

    score: Callable[[Windows], NDArray[np.float64]]
    C: float | None = None
    converged: bool = True
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinearSVM:
    """L2-regularised squared hinge with intercept: `liblinear -s 2 -B 1`. `C` of None: by cross-validation.

    Of folds that the data bring, the SVM of all but i and j serves the search for i and that for j: it is kept.
    """

    C: float | None = None
    grid: tuple[float, ...] = GRID
    name: str = "linear SVM"
    _kept: dict[tuple[float, bytes], FittedClassifier] = field(default_factory=dict, repr=False, compare=False)

    def fit(self, windows: Windows, labels: Labels, inner: NDArray[np.int64]) -> FittedClassifier:
        windows = windows.averaged() if labels.ndim == 2 else windows  # which is what `fit_tags` asks for
        with warnings.catch_warnings():  # the remarks say so; here, since threads share their filters
            warnings.simplefilter("ignore", ConvergenceWarning)
            C, remarks = (self.C, ()) if self.C is not None else self._choose(windows, labels, inner)  # noqa: N806
            fitted = fit_svm(windows, labels, C)
        if not fitted.converged:
            remarks += (f"with C={C:g} the solver came to no end",)
        return replace(fitted, remarks=remarks)

    def _choose(self, windows: Windows, labels: Labels, inner: NDArray[np.int64]) -> tuple[float, tuple[str, ...]]:
        """The C that names most recordings rightly when each inner fold is left out in turn; of equals the smallest.

        Of several classes a recording, the one with the highest mean average precision.

        A C with which the solver comes to no end is not taken. liblinear lets go of Python's lock: threads use all
        cores.
        """
        digests = {fold: digest_of(windows.of(rest), labels[rest]) for fold, (rest, _) in parts(inner).items()}
        trials = [(C, fold) for C in sorted(self.grid) for fold in digests]

        def right(trial: tuple[float, int]) -> float | None:
            (C, fold), (rest, held_out) = trial, parts(inner)[trial[1]]  # noqa: N806
            fitted = self._kept.get((C, digests[fold])) or fit_svm(windows.of(rest), labels[rest], C)
            self._kept[C, digests[fold]] = fitted
            if not fitted.converged:
                return None
            return merit(labels[held_out], fitted.score(windows.of(held_out)))

        threads = max(1, min(available_threads(), MOST_BYTES // (BYTES_PER_VALUE * windows.values.size)))
        counts: dict[float, list[float | None]] = {}
        for (C, _), count in zip(trials, side_by_side(right, iter(trials), threads), strict=True):  # noqa: N806
            counts.setdefault(C, []).append(count)
        found = {
            C: sum(each for each in right_of if each is not None)
            for C, right_of in counts.items()
            if None not in right_of
        }
        remarks = tuple(f"with C={C:g} the solver came to no end: it is not chosen" for C in counts if C not in found)
        best = max(found, key=lambda each: found[each], default=min(self.grid))  # the first of equals
        if len(counts) > 1 and best in (min(self.grid), max(self.grid)):
            other = "smaller" if best == min(self.grid) else "larger"
            remarks += (f"C={best:g} is at the grid's edge: a {other} one may be better",)
        return best, remarks


def parts(inner: NDArray[np.int64]) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """{fold: the recordings of the others, its own}; -1 is of no fold."""
    folds = [fold for fold in np.unique(inner).tolist() if fold >= 0]
    return {fold: (np.nonzero(inner != fold)[0], np.nonzero(inner == fold)[0]) for fold in folds}


def merit(labels: Labels, scores: NDArray[np.float64]) -> float:
    """Recordings named rightly; or the mean average precision, of the classes that the recordings have."""
    if labels.ndim == 1:
        return int((scores.argmax(axis=1) == labels).sum())
    found = [Ranking.of(*columns).average_precision() for columns in zip(labels.astype(bool).T, scores.T, strict=True)]
    return float(np.nanmean(found))


def digest_of(windows: Windows, labels: Labels) -> bytes:
    """Of all that an SVM learns from, but C."""
    digest = hashlib.sha256(repr(windows.values.shape).encode())
    for array in (windows.values, windows.recordings, labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def fit_svm(windows: Windows, labels: Labels, C: float) -> FittedClassifier:  # noqa: N803
    """One SVM per class on single windows. Scores are decision values, averaged over a recording's windows."""
    if labels.ndim == 2:
        return fit_tags(windows, labels, C)
    svm = LinearSVC(C=C, tol=TOLERANCE, dual=False, max_iter=MOST_STEPS)
    svm.fit(windows.values, labels[windows.recordings])

    def score(windows: Windows) -> NDArray[np.float64]:
        decisions = svm.decision_function(windows.values)
        if decisions.ndim == 1:  # two classes have one plane
            decisions = np.stack([-decisions, decisions], axis=1)
        return windows.mean(by_class(decisions, svm.classes_))

    return FittedClassifier(score, C, converged=bool(svm.n_iter_ < svm.max_iter))


def fit_tags(windows: Windows, targets: Labels, C: float) -> FittedClassifier:  # noqa: N803
    """One SVM per class on one window a recording, their mean: of many classes and windows, single ones cost too much.

    It scores any windows, by their mean.
    """
    means = windows.values  # (recordings, dimensions)

    def fit_one(wanted: Labels) -> tuple[NDArray[np.float64], float, bool]:
        if len(np.unique(wanted)) < 2:  # a part of the recordings need not have each class
            return np.zeros(means.shape[1]), 0.0, True
        svm = LinearSVC(C=C, tol=TOLERANCE, dual=False, max_iter=MOST_STEPS).fit(means, wanted)
        return svm.coef_[0], float(svm.intercept_[0]), bool(svm.n_iter_ < svm.max_iter)

    weights, intercepts, converged = zip(*side_by_side(fit_one, list(targets.T)), strict=True)
    matrix, offsets = np.stack(weights, axis=1), np.array(intercepts)
    return FittedClassifier(lambda windows: windows.mean(windows.values) @ matrix + offsets, C, all(converged))


def by_class(scores: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores whose columns are `classes` -> scores whose column c is class c; a class never seen is never named."""
    placed = np.full((len(scores), int(classes.max()) + 1), -np.inf)
    placed[:, classes] = scores
    return placed


@dataclass(frozen=True)
class ScaledSVM:
    """A linear SVM after every dimension was given mean 0 and deviation 1 on the training windows."""

    svm: LinearSVM = field(default_factory=LinearSVM)

    @property
    def name(self) -> str:
        return f"scaled {self.svm.name}"

    def fit(self, windows: Windows, labels: Labels, inner: NDArray[np.int64]) -> FittedClassifier:
        scaler = StandardScaler().fit(windows.values)

        def scaled(windows: Windows) -> Windows:
            return Windows(scaler.transform(windows.values), windows.recordings)

        fitted = self.svm.fit(scaled(windows), labels, inner)
        return replace(fitted, score=lambda windows: fitted.score(scaled(windows)))


@dataclass(frozen=True)
class RandomForest:
    """Table 4's random forest [28]; the authors give no size."""

    trees: int = 500
    name: str = "random forest"

    def fit(self, windows: Windows, labels: Labels, inner: NDArray[np.int64]) -> FittedClassifier:
        forest = RandomForestClassifier(self.trees, random_state=0).fit(windows.values, labels[windows.recordings])

        def score(windows: Windows) -> NDArray[np.float64]:
            return windows.mean(by_class(forest.predict_proba(windows.values), forest.classes_))

        return FittedClassifier(score)
