"""Statistics of a teacher: how decided its posteriors are (entropies), and which classes it names most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.report.sample import Pick, TeacherHead, sampled
from shards.format.sidefile import side_files

BINS = 24


@dataclass
class TeacherStats:
    """One teacher over a sample of windows (entropies in nats), and its mean posterior over all windows."""

    teacher: TeacherHead
    sums: NDArray[np.float64]  # (classes,), of all windows
    entropies: list[float] = field(default_factory=list)
    named: Counter[int] = field(default_factory=Counter)  # top-1 classes

    @property
    def uniform_entropy(self) -> float:
        """ln(classes): of a teacher that knows nothing."""
        return float(np.log(len(self.teacher.card.classes)))

    @property
    def mean_posterior(self) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.sums / max(float(self.sums.sum()), 1e-300)
        return mean

    @property
    def mean_entropy(self) -> float:
        """Of the mean posterior: what is left to know once only the frequencies of the classes are known."""
        return float(entropy(self.mean_posterior))

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.entropies, share))

    @property
    def histogram(self) -> list[int]:
        """Windows in each of BINS equal parts from 0 to the uniform's entropy."""
        top = max(self.uniform_entropy, 1e-9)
        return [int(count) for count in np.histogram(np.clip(self.entropies, 0, top), BINS, (0, top))[0]]

    def most_named(self, count: int) -> list[tuple[str, float, float]]:
        """(class, share of the sampled windows that have it on top, its mean posterior over all windows)."""
        return [
            (self.teacher.card.classes[index], windows / len(self.entropies), float(self.mean_posterior[index]))
            for index, windows in self.named.most_common(count)
        ]

    def add(self, posteriors: NDArray[np.float16]) -> None:
        """Count the windows of one clip, (windows, classes)."""
        self.entropies += entropy(posteriors.astype(np.float64)).tolist()
        self.named.update(int(index) for index in posteriors.argmax(axis=1))


def entropy(posteriors: NDArray[np.float64]) -> NDArray[np.float64]:
    """-sum p ln p over the last axis, in nats; rows are brought to a sum of 1 first."""
    shares = posteriors / np.maximum(posteriors.sum(axis=-1, keepdims=True), 1e-300)
    result: NDArray[np.float64] = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=-1)
    return result


def teacher_stats(
    folder: Path, heads: Sequence[TeacherHead], picks: Sequence[Pick], tars: str | None = None
) -> list[TeacherStats]:
    """Of every teacher: sums from all side files, the rest from the picked clips."""
    stats = [TeacherStats(head, _sums(head)) for head in heads]
    by_head = {(each.teacher.folder, each.teacher.head): each for each in stats}
    for shard, clip in sampled(folder, picks, heads, tars):
        for head, posteriors in shard.posteriors(clip):
            by_head[head.folder, head.head].add(posteriors)
    return stats


def _sums(head: TeacherHead) -> NDArray[np.float64]:
    parts = (np.asarray(side.posterior_sums[head.head]) for side in side_files(head.folder) if side.keys)
    return sum(parts, np.zeros(len(head.card.classes)))
