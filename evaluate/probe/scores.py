"""The numbers of an evaluation: accuracy, or mean average precision, with its interval, per class; and their file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark
from evaluate.benchmarks.recordings import Recordings
from shards.cli.words import amount
from shards.errors import ContractError, UserError
from shards.files import write_whole

FORMAT = 4
NAME = "scores.json"
LIBRARIES = ("av", "numpy", "scikit-learn", "torch")  # whose versions can change a number
ACCURACY, PRECISION = "accuracy", "mean average precision"  # what a score's number is
Z95 = 1.959963984540054  # of the normal distribution, two-sided
RESAMPLED = 1000  # times, for the interval of a mean average precision


@dataclass(frozen=True)
class Score:
    """One number of a table and what lies behind it. `confusion[true][predicted]` counts recordings.

    Of multi-label data the number is the mean average precision; there is no confusion, and nothing is `predicted`.
    """

    benchmark: str
    features: str  # checkpoint | random | mfcc | ...
    classifier: str
    layer: str | None
    seed: int | None
    value: float  # of `measure`
    measure: str  # ACCURACY | PRECISION
    interval: tuple[float, float]  # 95 %, Wilson; of a mean average precision a bootstrap over recordings
    per_fold: dict[str, float]
    per_class: dict[str, float]
    confusion: list[list[int]]
    C: dict[str, float | None]  # tested fold -> the one used
    converged: bool
    remarks: list[str]  # what is doubtful about C or the solver, with the folds
    windows: dict[str, Any]  # how they were cut, how many, how large
    seconds: float  # that classifiers took
    predicted: list[int | None]  # each recording's class, in the order of Scores.recordings; None: not tested
    decisions: list[list[float | None]]  # what it was decided by, a value for each class; None: a class never learned

    @property
    def recordings(self) -> int:
        return sum(map(sum, self.confusion)) if self.measure == ACCURACY else sum(map(bool, self.decisions))

    def __str__(self) -> str:
        what = " ".join(part for part in (self.features, self.layer, self.classifier) if part)
        seed = "" if self.seed is None else f", seed {self.seed}"
        low, high = self.interval
        if self.measure != ACCURACY:
            tested = amount(self.recordings, "recording")
            return f"{what}{seed}: {self.measure} {self.value:.3f} on {tested} ({low:.3f} to {high:.3f})"
        return f"{what}{seed}: {self.value:.1%} of {self.recordings} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class ScoredRecording:
    """A recording of the benchmark; `digest` is that of its bytes, by which it is known wherever it lies."""

    name: str
    digest: str
    fold: str
    label: int
    group: str = ""  # of takes of one source
    others: tuple[int, ...] = ()  # further classes, of multi-label data


@dataclass(frozen=True)
class Scores:
    """All numbers of one run, with the artifacts they were made of."""

    benchmark: str
    data_sha256: str
    classes: list[str]
    checkpoint: dict[str, Any] | None  # file, sha256, student, teachers, clips and steps trained
    recordings: list[ScoredRecording]
    scores: list[Score]
    grouping: str = ""  # what is known of takes of one source
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in LIBRARIES})
    format: int = FORMAT

    @classmethod
    def of(cls, recordings: Recordings, checkpoint: dict[str, Any] | None, scores: list[Score]) -> Scores:
        """Scores on these recordings."""
        benchmark = recordings.benchmark
        tested = [
            ScoredRecording(each.name, digest[:32], each.fold, each.label, each.group, each.others)
            for each, digest in zip(benchmark.recordings, recordings.digests, strict=True)
        ]
        return cls(
            benchmark.spec.name,
            recordings.sha256,
            list(benchmark.classes),
            checkpoint,
            tested,
            scores,
            benchmark.grouping,
        )

    @property
    def name(self) -> str:
        """Of the network, short and unique, for a folder of scores."""
        return (
            "baselines" if self.checkpoint is None else f"{self.checkpoint['student']}-{self.checkpoint['sha256'][:8]}"
        )

    def save(self, folder: Path) -> Path:
        fields = asdict(self)
        fields["recordings"] = [[*list(asdict(each).values())[:-1], *each.others] for each in self.recordings]
        text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s*\]", _on_one_line, json.dumps(fields, indent=1))
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / NAME, text.encode())
        return folder / NAME

    @classmethod
    def load(cls, folder: Path) -> Scores:
        """Raises UserError where there are none, or some of another format."""
        path = folder / NAME
        if not path.is_file():
            raise UserError(f"{folder} holds no {NAME}: `python -m evaluate ... out={folder}` writes it")
        try:
            fields = json.loads(path.read_bytes())
            if fields["format"] != FORMAT:
                raise ContractError(
                    f"{path} has format {fields['format']}, this program reads {FORMAT}: evaluate again"
                )
            scores = [Score(**{**score, "interval": tuple(score["interval"])}) for score in fields["scores"]]
            recordings = [_recording(*each) for each in fields["recordings"]]
            return cls(**{**fields, "recordings": recordings, "scores": scores})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is not a file of scores: {error}") from None


def _recording(name: str, digest: str, fold: str, label: int, group: str, *others: int) -> ScoredRecording:
    """As a line of the file has it."""
    return ScoredRecording(name, digest, fold, label, group, others)


def _on_one_line(innermost: re.Match[str]) -> str:
    """A list that holds no other: a recording, or its decision, is a line of the file."""
    return "[" + re.sub(r"\n\s*", " ", innermost[1]) + "]"


def confusion_of(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(classes, classes): recordings of class [row] that were classified as [column]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def accuracy_by_class(benchmark: Benchmark, confusion: NDArray[np.int64]) -> dict[str, float]:
    """{class: share of its tested recordings classified rightly}; a class without any is left out."""
    tested = confusion.sum(axis=1)
    return {
        name: float(confusion[index, index] / tested[index])
        for index, name in enumerate(benchmark.classes)
        if tested[index]
    }


def wilson(right: float, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): with few recordings it stays inside 0 and 1."""
    share, weight = right / total, Z95**2 / total
    centre = (share + weight / 2) / (1 + weight)
    spread = Z95 / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, centre - spread), min(1.0, centre + spread)


@dataclass(frozen=True)
class Ranking:
    """The recordings in the order of a class's scores, the highest first."""

    order: NDArray[np.int64]  # (recordings,)
    last: NDArray[np.int64]  # the places where equal scores end
    positive: NDArray[np.bool_]  # in that order

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Ranking:
        order = np.argsort(-scores, kind="stable")
        return cls(order, np.append(np.nonzero(np.diff(scores[order]))[0], len(order) - 1), positive[order])

    def average_precision(self, counts: NDArray[np.int64] | None = None) -> float:
        """Sum over thresholds of (R_n - R_(n-1)) P_n, recall and precision; NaN where nothing is positive.

        `counts` says how often each recording counts: a resampling.
        """
        weights = np.ones(len(self.order), np.int64) if counts is None else counts[self.order]
        found, taken = (np.cumsum(each)[self.last] for each in (weights * self.positive, weights))
        if not found[-1]:
            return math.nan
        return float((np.diff(found, prepend=0) * found / np.maximum(taken, 1)).sum() / found[-1])


def average_precisions(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Of each class, from (recordings, classes), and the 95 % interval of their mean.

    The interval is the normal one with a bootstrap's deviation over recordings, and not the bootstrap's quantiles: a
    positive that is drawn twice raises precision, so that resampled means are too high.
    """
    rankings = [Ranking.of(*columns) for columns in zip(positive.T, scores.T, strict=True)]
    found = np.array([ranking.average_precision() for ranking in rankings])
    generator, total = np.random.default_rng(0), len(scores)
    draws = (generator.multinomial(total, np.full(total, 1 / total)) for _ in range(RESAMPLED))
    means = [np.nanmean([ranking.average_precision(counts) for ranking in rankings]) for counts in draws]
    mean, spread = float(found.mean()), Z95 * float(np.std(means))
    return found, (max(0.0, mean - spread), min(1.0, mean + spread))
