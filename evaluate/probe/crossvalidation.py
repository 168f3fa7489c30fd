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
from evaluate.probe.classifiers import FittedClassifier, Labels
from evaluate.probe.features.windows import Windows
from evaluate.probe.scores import (
    ACCURACY,
    PRECISION,
    Score,
    accuracy_by_class,
    average_precisions,
    confusion_of,
    wilson,
)


class Classifier(Protocol):
    """What turns windows and their recordings' labels into scores: an SVM or a random forest."""

    @property
    def name(self) -> str: ...

    def fit(self, windows: Windows, labels: Labels, inner: NDArray[np.int64]) -> FittedClassifier: ...


@dataclass(frozen=True)
class Source:
    """Features by name, for each split: {layer: windows of all recordings}. Most are the same for every split."""

    name: str
    of: Callable[[Split], dict[str, Windows]]
    seed: int | None = None
    windows: dict[str, Any] = field(default_factory=dict)  # for the record


@dataclass
class _Tally:
    scores: NDArray[np.float64]  # (recordings, classes), NaN where a recording is not tested
    C: dict[str, float | None] = field(default_factory=dict)
    converged: bool = True
    remarks: dict[str, list[str]] = field(default_factory=dict)  # what is doubtful -> in which folds
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
    targets = benchmark.targets
    shape = (len(benchmark.recordings), len(benchmark.classes))
    for split in benchmark.splits():
        for layer, windows in source.of(split).items():
            tally = tallies.setdefault(layer, _Tally(np.full(shape, np.nan)))
            begun = time.monotonic()
            chosen = by_layer.get(layer, classifier)
            fitted = chosen.fit(windows.of(split.train), targets[split.train], split.inner)
            scores = fitted.score(windows.of(split.test))  # of the classes up to the last one that was learned
            tally.scores[split.test] = -np.inf
            tally.scores[split.test, : scores.shape[1]] = scores
            tally.C[split.tested] = fitted.C
            tally.converged &= fitted.converged
            for remark in fitted.remarks:
                tally.remarks.setdefault(remark, []).append(split.tested)
            tally.shape = windows.values.shape
            tally.seconds += time.monotonic() - begun
    return [
        _score(benchmark, source, by_layer.get(layer, classifier), layer, tally) for layer, tally in tallies.items()
    ]


def _score(benchmark: Benchmark, source: Source, classifier: Classifier, layer: str, tally: _Tally) -> Score:
    tested = ~np.isnan(tally.scores[:, 0])
    known: dict[str, Any] = (_precision if benchmark.spec.multilabel else _accuracy)(benchmark, tally.scores, tested)
    return Score(
        benchmark=benchmark.spec.name,
        features=source.name,
        classifier=classifier.name,
        layer=layer or None,
        seed=source.seed,
        **known,
        C=tally.C,
        converged=tally.converged,
        remarks=[f"fold {', '.join(folds)}: {remark}" for remark, folds in tally.remarks.items()],
        windows={**source.windows, "count": tally.shape[0], "dimensions": tally.shape[1]},
        seconds=round(tally.seconds, 1),
        decisions=[[_rounded(each) for each in row] if not np.isnan(row[0]) else [] for row in tally.scores],
    )


def _accuracy(benchmark: Benchmark, scores: NDArray[np.float64], tested: NDArray[np.bool_]) -> dict[str, Any]:
    labels, predicted = benchmark.labels, scores.argmax(axis=1)
    right = tested & (predicted == labels)
    confusion = confusion_of(labels[tested], predicted[tested], len(benchmark.classes))
    return {
        "value": float(right[tested].mean()),
        "measure": ACCURACY,
        "interval": wilson(int(right[tested].sum()), int(tested.sum())),
        "per_fold": {fold: float(right[benchmark.folds == fold].mean()) for fold in benchmark.tested},
        "per_class": accuracy_by_class(benchmark, confusion),
        "confusion": confusion.tolist(),
        "predicted": [int(label) if each else None for label, each in zip(predicted, tested, strict=True)],
    }


def _precision(benchmark: Benchmark, scores: NDArray[np.float64], tested: NDArray[np.bool_]) -> dict[str, Any]:
    """Of one test set: scores of several classifiers have no order in common."""
    precisions, interval = average_precisions(benchmark.targets[tested].astype(bool), scores[tested])
    mean = float(precisions.mean())
    return {
        "value": mean,
        "measure": PRECISION,
        "interval": interval,
        "per_fold": dict.fromkeys(benchmark.tested, mean),
        "per_class": dict(zip(benchmark.classes, precisions.tolist(), strict=True)),
        "confusion": [],
        "predicted": [None] * len(scores),
    }


def _rounded(score: float) -> float | None:
    """To five digits: enough to rank by, and to see what was close."""
    return float(f"{score:.5g}") if np.isfinite(score) else None
