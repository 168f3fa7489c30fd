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
from evaluate.inference.tag.baseline import Baseline

SHORTEST = 0.1  # seconds of a sound that is named
# Peak of int16 samples up to which nothing is named: -50 dB of full scale. Of the 40 dogs and 40 seas of ESC-10 brought
# to a peak of -30 dB the published weights name 2 and 12, of -40 dB none, and from -50 dB on they say what silence says
# (a KL of 0.01 nats in the median).
SILENT = 104


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
    """A part of a sound in seconds, or all of it, with its tags {head: [...]}; why it has none, if so."""

    begin: float
    end: float
    tags: dict[str, list[Tag]]
    unnamed: str | None = None


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

    def span(begin: float, end: float, posteriors: Mapping[str, NDArray[np.floating]]) -> Span:
        peak = sound.peak(begin, end)
        return span_of((begin, end), posteriors, base, classes, top=top, peak=peak, seconds=sound.seconds)

    parts = [
        span(float(sound.begins[row]), float(sound.ends[row]), {h: each[row] for h, each in sound.posteriors.items()})
        for row in range(len(sound.begins) if over_time else 0)
    ]
    return SoundTags(span(0.0, sound.seconds, sound.means), parts)


def span_of(
    when: tuple[float, float],
    posteriors: Mapping[str, NDArray[np.floating]],
    base: Baseline,
    classes: Mapping[str, Sequence[str]],
    *,
    top: int,
    peak: int,
    seconds: float,
) -> Span:
    """The names of {head: (classes,)}; none where its loudest sample is silent or the whole sound next to nothing."""
    unnamed = f"shorter than {SHORTEST:g} s" if seconds < SHORTEST else "silent" if peak <= SILENT else None
    tags = {
        head: [] if unnamed else strongest_tags(each, base.lift(head, each), classes[head], top)
        for head, each in posteriors.items()
    }
    return Span(*when, tags, unnamed)


def strongest_tags(
    posterior: NDArray[np.floating], lift: NDArray[np.float64], classes: Sequence[str], top: int
) -> list[Tag]:
    """At most `top` classes by falling lift, of those that are at least as likely as if all were: (classes,) each.

    A rare class can be a hundred times its mean and still be nothing that is in the sound.
    """
    likely = np.flatnonzero(posterior * len(posterior) >= 1 - 1e-6)
    order = likely[np.lexsort((-posterior[likely], -lift[likely].round(6)))][:top]  # over itself, all lifts are 1
    return [Tag(classes[index], float(posterior[index]), float(lift[index])) for index in order]
