"""Cross-validation, which every number shares: train on all folds but one, classify the recordings of that one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark, Split
from evaluate.probe.classifiers import FittedClassifier
from evaluate.probe.features.windows import Windows
from evaluate.probe.scores import Score, accuracy_by_class, confusion_of, wilson


class Classifier(Protocol):
    """What turns windows and their recordings' labels into scores: an SVM or a random forest."""

    @property
    def name(self) -> str: ...

    def fit(self, windows: Windows, labels: NDArray[np.int64], inner: NDArray[np.int64]) -> FittedClassifier: ...


@dataclass(frozen=True)
class Source:
    """Features by name, for each split: {layer: windows of all recordings}. Most are the same for every split."""

    name: str
    of: Callable[[Split], dict[str, Windows]]
    seed: int | None = None
    windows: dict[str, Any] = field(default_factory=dict)  # for the record


@dataclass
class _Tally:
    predicted: NDArray[np.int64]  # (recordings,), -1 where a recording is not tested
    C: dict[str, float | None] = field(default_factory=dict)
    converged: bool = True
    shape: tuple[int, ...] = ()
    seconds: float = 0.0


def evaluate_folds(
    benchmark: Benchmark,
    source: Source,
    classifier: Classifier,
    by_layer: Mapping[str, Classifier] = MappingProxyType({}),
) -> list[Score]:
    """One score per layer of the source; `by_layer` names layers that need another classifier."""
    tallies: dict[str, _Tally] = {}
    for split in benchmark.splits():
        for layer, windows in source.of(split).items():
            tally = tallies.setdefault(layer, _Tally(np.full(len(benchmark.recordings), -1)))
            begun = time.monotonic()
            chosen = by_layer.get(layer, classifier)
            fitted = chosen.fit(windows.of(split.train), benchmark.labels[split.train], split.inner)
            tally.predicted[split.test] = fitted.score(windows.of(split.test)).argmax(axis=1)
            tally.C[split.tested] = fitted.C
            tally.converged &= fitted.converged
            tally.shape = windows.values.shape
            tally.seconds += time.monotonic() - begun
    return [
        _score(benchmark, source, by_layer.get(layer, classifier), layer, tally) for layer, tally in tallies.items()
    ]


def _score(benchmark: Benchmark, source: Source, classifier: Classifier, layer: str, tally: _Tally) -> Score:
    labels, tested = benchmark.labels, tally.predicted >= 0
    right = tally.predicted == labels
    confusion = confusion_of(labels[tested], tally.predicted[tested], len(benchmark.classes))
    return Score(
        benchmark=benchmark.spec.name,
        features=source.name,
        classifier=classifier.name,
        layer=layer or None,
        seed=source.seed,
        accuracy=float(right[tested].mean()),
        interval=wilson(int(right[tested].sum()), int(tested.sum())),
        per_fold={fold: float(right[benchmark.folds == fold].mean()) for fold in benchmark.tested},
        per_class=accuracy_by_class(benchmark, confusion),
        confusion=confusion.tolist(),
        C=tally.C,
        converged=tally.converged,
        windows={**source.windows, "count": tally.shape[0], "dimensions": tally.shape[1]},
        seconds=round(tally.seconds, 1),
    )
