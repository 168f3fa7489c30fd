"""Tags: the classes that stand out in a sound, by lift: how many times as likely each is here as elsewhere.

Posteriors are flat, so that they say little alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.posteriors import SoundPosteriors
from train.checkpoint.checkpoint import Checkpoint

LEAST_SHARE = 1e-3  # of an even posterior: what a class is taken to have elsewhere where it never came up


@dataclass(frozen=True)
class Baseline:
    """What lifts are over: mean posteriors {head: (classes,)}, and in words what they are the mean of."""

    means: Mapping[str, NDArray[np.float64]]
    origin: str

    @classmethod
    def trained(cls, checkpoint: Checkpoint) -> Baseline | None:
        """The mean of the posteriors the student was trained on, if its checkpoint has it."""
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
        """Posteriors (..., classes) over their mean."""
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


@dataclass(frozen=True)
class Span:
    """A part of a sound in seconds, or all of it, with its tags {head: [...]}."""

    begin: float
    end: float
    tags: dict[str, list[Tag]]


@dataclass(frozen=True)
class SoundTags:
    """One sound: the whole, and its parts one after the other (none where they were not asked for)."""

    whole: Span
    parts: list[Span]


@dataclass(frozen=True)
class TagReport:
    """All files, what lifts are over, and which network was used: its file, hash, student and story."""

    checkpoint: dict[str, str]
    lift_over: str
    files: dict[Path, SoundTags]


def tags_of(
    sound: SoundPosteriors,
    base: Baseline,
    classes: Mapping[str, Sequence[str]],
    *,
    top: int,
    over_time: bool = True,
) -> SoundTags:
    """The tags of one sound. `classes` maps heads to their classes' names."""
    lifts = {head: base.lift(head, posteriors) for head, posteriors in sound.posteriors.items()}  # (rows, classes)
    whole = {
        head: strongest_tags(mean, base.lift(head, mean), classes[head], top) for head, mean in sound.means.items()
    }
    parts = [
        Span(
            float(sound.begins[row]),
            float(sound.ends[row]),
            {head: strongest_tags(sound.posteriors[head][row], lifts[head][row], classes[head], top) for head in lifts},
        )
        for row in range(len(sound.begins) if over_time else 0)
    ]
    return SoundTags(Span(0.0, sound.seconds, whole), parts)


def strongest_tags(
    posterior: NDArray[np.floating], lift: NDArray[np.float64], classes: Sequence[str], top: int
) -> list[Tag]:
    """At most `top` classes by falling lift, of those that are at least as likely as if all were: (classes,) each.

    A rare class can be a hundred times its mean and still be nothing that is in the sound.
    """
    likely = np.flatnonzero(posterior * len(posterior) >= 1 - 1e-6)
    order = likely[np.lexsort((-posterior[likely], -lift[likely].round(6)))][:top]  # over itself, all lifts are 1
    return [Tag(classes[index], float(posterior[index]), float(lift[index])) for index in order]
