"""Lift: how many times as likely a class is here as elsewhere. Posteriors are flat, so that they say little alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.posteriors import SoundPosteriors
from train.checkpoint.checkpoint import Checkpoint

LEAST_SHARE = 1e-3  # of an even posterior: what a class is taken to have elsewhere where it never came up


@dataclass(frozen=True)
class Baseline:
    """What is usual: mean posteriors {head: (classes,)}, and in words what they are the mean of."""

    means: Mapping[str, NDArray[np.float64]]
    origin: str

    @classmethod
    def trained(cls, checkpoint: Checkpoint) -> Baseline | None:
        """The mean of what the student was taught, if its checkpoint knows it."""
        if checkpoint.training_mean is None:
            return None
        means = {head: mean.double().cpu().numpy() for head, mean in checkpoint.training_mean.items()}
        return cls(means, "the mean over the checkpoint's training set")

    @classmethod
    def of(cls, sounds: Sequence[SoundPosteriors], origin: str) -> Baseline:
        """The mean over sounds, each by its length."""
        lengths = np.array([sound.seconds for sound in sounds])
        heads = sounds[0].means
        means = {head: lengths @ np.stack([sound.means[head] for sound in sounds]) / lengths.sum() for head in heads}
        return cls(means, origin)

    def lift(self, head: str, posteriors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Posteriors (..., classes) over what is usual."""
        mean = self.means[head]
        lifts: NDArray[np.float64] = posteriors / np.maximum(mean, LEAST_SHARE / len(mean))
        return lifts


@dataclass(frozen=True)
class Tag:
    """A class that stands out, with its posterior and its lift."""

    name: str
    posterior: float
    lift: float

    @property
    def short(self) -> str:
        """ImageNet's names list synonyms: `tench, Tinca tinca`."""
        return self.name.partition(",")[0]


def tags(posterior: NDArray[np.floating], lift: NDArray[np.float64], classes: Sequence[str], top: int) -> list[Tag]:
    """At most `top` classes by falling lift, of those that are at least as likely as if all were: (classes,) each.

    A rare class can be a hundred times its mean and still be nothing that is heard.
    """
    likely = np.flatnonzero(posterior * len(posterior) >= 1 - 1e-6)
    order = likely[np.lexsort((-posterior[likely], -lift[likely].round(6)))][:top]  # over itself, all lifts are 1
    return [Tag(classes[index], float(posterior[index]), float(lift[index])) for index in order]


@dataclass(frozen=True)
class Span:
    """A part of a sound in seconds, or all of it, with its tags {head: [...]}."""

    begin: float
    end: float
    tags: dict[str, list[Tag]]


@dataclass(frozen=True)
class Finding:
    """One file: the whole, and its parts one after the other (none where they were not asked for)."""

    path: Path
    whole: Span
    parts: list[Span]


@dataclass(frozen=True)
class Findings:
    """All files, and what lifts are over. `checkpoint` says which network was asked: file, hash, student, story."""

    checkpoint: dict[str, str]
    lift_over: str
    findings: list[Finding]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A flat row for every tag. `span` is `whole` or `part`, rank 1 the highest lift."""
        for finding in self.findings:
            for name, span in [("whole", finding.whole), *(("part", part) for part in finding.parts)]:
                for head, tagged in span.tags.items():
                    for rank, tag in enumerate(tagged, start=1):
                        yield {
                            "file": str(finding.path),
                            "span": name,
                            "begin": round(span.begin, 3),
                            "end": round(span.end, 3),
                            "head": head,
                            "rank": rank,
                            "name": tag.name,
                            "posterior": round(tag.posterior, 6),
                            "lift": round(tag.lift, 3),
                            "lift_over": self.lift_over,
                        }


def find(
    path: Path,
    heard: SoundPosteriors,
    base: Baseline,
    classes: Mapping[str, Sequence[str]],
    *,
    top: int,
    over_time: bool,
) -> Finding:
    """The tags of one sound. `classes` maps heads to their classes' names."""
    lifts = {head: base.lift(head, posteriors) for head, posteriors in heard.posteriors.items()}  # (rows, classes)
    whole = {head: tags(mean, base.lift(head, mean), classes[head], top) for head, mean in heard.means.items()}
    parts = [
        Span(
            float(heard.begins[row]),
            float(heard.ends[row]),
            {head: tags(heard.posteriors[head][row], lifts[head][row], classes[head], top) for head in lifts},
        )
        for row in range(len(heard.begins) if over_time else 0)
    ]
    return Finding(path, Span(0.0, heard.seconds, whole), parts)
