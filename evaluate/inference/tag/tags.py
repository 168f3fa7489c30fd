"""Lift: how many times as likely a class is here as elsewhere. Posteriors are flat, so that they say little alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.posteriors import Heard
from train.checkpoint.checkpoint import Checkpoint

LEAST_SHARE = 1e-3  # of an even posterior: what a class is taken to have elsewhere where it never came up


@dataclass(frozen=True)
class Base:
    """What is usual: mean posteriors {head: (classes,)}, and in words what they are the mean of."""

    means: Mapping[str, NDArray[np.float64]]
    origin: str

    @classmethod
    def trained(cls, checkpoint: Checkpoint) -> Base | None:
        """The mean of what the student was taught, if its checkpoint knows it."""
        if checkpoint.training_mean is None:
            return None
        means = {head: mean.double().cpu().numpy() for head, mean in checkpoint.training_mean.items()}
        return cls(means, "the mean over the checkpoint's training set")

    @classmethod
    def of(cls, sounds: Sequence[Heard], origin: str) -> Base:
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
