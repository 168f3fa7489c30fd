"""Classifiers of windows: the paper's one-vs-all linear SVMs (section 3.3), and Table 4's random forest.

`fit` learns the recordings' labels (recordings,) from their windows; `inner` gives each recording a fold for C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from evaluate.probe.features.windows import Windows

# The authors have 0.01; layers differ in scale by a hundred.
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Where liblinear stops its solver -s 1, which the authors call; 1e-4 takes twice as long and ESC-10 comes out the same.
TOLERANCE = 0.1


@dataclass(frozen=True)
class FittedClassifier:
    """`score` turns windows into scores (recordings, classes); `C` and `converged` are facts for the record."""

    score: Callable[[Windows], NDArray[np.float64]]
    C: float | None = None
    converged: bool = True


@dataclass(frozen=True)
class LinearSVM:
    """L2-regularised squared hinge, dual, with intercept: `liblinear -s 1 -B 1`. `C` of None: by cross-validation."""

    C: float | None = None
    grid: tuple[float, ...] = GRID
    name: str = "linear SVM"

    def fit(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> FittedClassifier:
        C = self.C if self.C is not None else self._choose(windows, labels, inner)  # noqa: N806 - as everywhere
        return fit_svm(windows, labels, C)

    def _choose(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> float:
        """The C that names most recordings rightly when each inner fold is left out in turn; of equals the smallest.

        Where the solver comes to no end, a larger C makes it only slower: the search ends there.
        """
        best, most = min(self.grid), -1
        for C in sorted(self.grid):  # noqa: N806
            right = 0
            for fold in np.unique(inner):
                (held_out,), (rest,) = np.nonzero(inner == fold), np.nonzero(inner != fold)
                fitted = fit_svm(windows.of(rest), labels[rest], C)
                if not fitted.converged:
                    return best
                right += int((fitted.score(windows.of(held_out)).argmax(axis=1) == labels[held_out]).sum())
            if right > most:
                best, most = C, right
        return best


def fit_svm(windows: Windows, labels: NDArray[np.int64], C: float) -> FittedClassifier:  # noqa: N803
    """One SVM per class on single windows. Scores are decision values, averaged over a recording's windows."""
    svm = LinearSVC(C=C, tol=TOLERANCE, dual=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the scores say so
        svm.fit(windows.values, labels[windows.recordings])

    def score(windows: Windows) -> NDArray[np.float64]:
        decisions = svm.decision_function(windows.values)
        if decisions.ndim == 1:  # two classes have one plane
            decisions = np.stack([-decisions, decisions], axis=1)
        return windows.mean(by_class(decisions, svm.classes_))

    return FittedClassifier(score, C, converged=bool(svm.n_iter_ < svm.max_iter))


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

    def fit(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> FittedClassifier:
        scaler = StandardScaler().fit(windows.values)

        def scaled(windows: Windows) -> Windows:
            return Windows(scaler.transform(windows.values), windows.recordings)

        fitted = self.svm.fit(scaled(windows), labels, inner)
        return FittedClassifier(lambda windows: fitted.score(scaled(windows)), fitted.C, fitted.converged)


@dataclass(frozen=True)
class RandomForest:
    """Table 4's random forest [28]; the authors give no size."""

    trees: int = 500
    name: str = "random forest"

    def fit(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> FittedClassifier:
        forest = RandomForestClassifier(self.trees, random_state=0).fit(windows.values, labels[windows.recordings])

        def score(windows: Windows) -> NDArray[np.float64]:
            return windows.mean(by_class(forest.predict_proba(windows.values), forest.classes_))

        return FittedClassifier(score)
