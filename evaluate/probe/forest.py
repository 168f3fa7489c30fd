"""Classifiers for vectors whose entries have different units: an SVM after scaling, and a random forest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

from evaluate.probe.classifiers import LinearSVM, Trained, by_class
from evaluate.probe.windows import Windows

TREES = 500


@dataclass(frozen=True)
class ScaledSVM:
    """A linear SVM after every dimension was given mean 0 and deviation 1 on the training windows."""

    svm: LinearSVM = field(default_factory=LinearSVM)

    @property
    def name(self) -> str:
        return f"scaled {self.svm.name}"

    def train(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> Trained:
        scaler = StandardScaler().fit(windows.values)

        def scaled(asked: Windows) -> Windows:
            return Windows(scaler.transform(asked.values), asked.recordings)

        trained = self.svm.train(scaled(windows), labels, inner)
        return Trained(lambda asked: trained.score(scaled(asked)), trained.C, trained.converged)


@dataclass(frozen=True)
class RandomForest:
    """Table 4's random forest [28]; the authors give no size."""

    trees: int = TREES
    name: str = "random forest"

    def train(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> Trained:
        forest = RandomForestClassifier(self.trees, random_state=0).fit(windows.values, labels[windows.recordings])

        def score(asked: Windows) -> NDArray[np.float64]:
            return asked.mean(by_class(forest.predict_proba(asked.values), forest.classes_))

        return Trained(score)
