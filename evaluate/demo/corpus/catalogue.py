"""The catalogue of the demo corpus: which clips it holds, how long each is, and what each file is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath

from evaluate.demo.corpus.sounds import FAMILIES
from pipeline.videos.keys import key_of, split_of
from shards.errors import given

GOLDEN_SHARE = 0.618_033_988_75  # multiples of it, modulo 1, spread evenly however many there are


@dataclass(frozen=True)
class CorpusSettings:
    """The corpus in a few numbers; about `validation_share` of each photograph's clips are held out, at least one.

    `version` is raised whenever the same settings would give other pictures or sounds.
    """

    photographs: tuple[str, ...] = tuple(FAMILIES)
    clips_per_photograph: int = 20
    shortest_seconds: float = 10.5
    longest_seconds: float = 13.0
    width: int = 320
    height: int = 240
    frame_rate: int = 6
    validation_share: float = 0.3
    split_seed: int = 0  # the seed that the pipeline hashes keys with
    seed: int = 0
    version: int = 2

    def __post_init__(self) -> None:
        unknown = set(self.photographs) - set(FAMILIES)
        if unknown or not self.photographs:
            raise ValueError(f"no sounds for the photographs {sorted(unknown)}; there are {', '.join(FAMILIES)}")
        if self.clips_per_photograph < 2 or not 0 < self.validation_share < 1:
            raise ValueError("both splits need a clip of each photograph: clips_per_photograph >= 2, 0 < share < 1")
        if not 0 < self.shortest_seconds <= self.longest_seconds or self.width % 2 or self.height % 2:
            values = given(self, "shortest_seconds", "longest_seconds", "width", "height")
            raise ValueError(f"a corpus needs 0 < shortest_seconds <= longest_seconds and even sizes, not {values}")

    @property
    def held_out(self) -> int:
        """Clips of each photograph that the pipeline's hash puts into the validation split."""
        wished = round(self.clips_per_photograph * self.validation_share)
        return min(max(wished, 1), self.clips_per_photograph - 1)


@dataclass(frozen=True)
class CorpusClip:
    """One video to be made. `seconds` is a whole number of frames."""

    path: PurePosixPath  # relative to the corpus folder
    photograph: str
    number: int
    seconds: float


def catalogue(settings: CorpusSettings) -> list[CorpusClip]:
    """Every clip of the corpus, photograph by photograph, those for training first."""
    clips: list[CorpusClip] = []
    for photograph in settings.photographs:
        for number in _numbers(photograph, settings):
            share = (len(clips) * GOLDEN_SHARE) % 1
            seconds = settings.shortest_seconds + share * (settings.longest_seconds - settings.shortest_seconds)
            frames = round(seconds * settings.frame_rate)
            clips.append(CorpusClip(_path(photograph, number), photograph, number, frames / settings.frame_rate))
    return clips


def _numbers(photograph: str, settings: CorpusSettings) -> list[int]:
    """The smallest file numbers that the pipeline's hash of the path splits as the settings want it."""

    def numbers_in(split: str) -> Iterator[int]:
        for number in count():
            key = key_of(str(_path(photograph, number)))
            if split_of(key, settings.validation_share, settings.split_seed) == split:
                yield number

    training, validation = numbers_in("train"), numbers_in("validation")
    trained = settings.clips_per_photograph - settings.held_out
    return [next(training) for _ in range(trained)] + [next(validation) for _ in range(settings.held_out)]


def _path(photograph: str, number: int) -> PurePosixPath:
    return PurePosixPath(photograph, f"{photograph}-{number:03d}.mp4")
