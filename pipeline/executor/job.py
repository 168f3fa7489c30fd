"""A video on its way through stage one, from the plan to a shard, whoever carries it: this machine or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.format.sidefile import SideFile

Posteriors = dict[str, NDArray[np.float16]]

Place = TypeVar("Place")


@dataclass
class Clip(Generic[Place]):
    """A decoded clip and where its pictures lie, from the decoder to its posteriors."""

    head: ClipRecord
    place: Place
    posteriors: Posteriors | None = None


@dataclass
class VideoJob(Generic[Place]):
    """A video under way: decoded once its summary is there, complete once its clips are labelled too."""

    task: DecodeTask
    clips: list[Clip[Place]] = field(default_factory=list)
    summary: DecodeResult | None = None
    batched: int = 0  # clips handed to a batch so far

    @property
    def complete(self) -> bool:
        return self.summary is not None and all(clip.posteriors is not None for clip in self.clips)

    @property
    def outcome(self) -> Outcome:
        assert self.summary is not None
        return Outcome(self.task.path, self.summary, len(self.clips))


@dataclass(frozen=True)
class Outcome:
    """What became of a video."""

    path: str
    summary: DecodeResult
    clips: int


Tell: TypeAlias = Callable[[Outcome], None]
Waveforms: TypeAlias = Callable[
    [VideoJob[Any]], Iterator[NDArray[np.int16]]
]  # the sound of a complete video, clip by clip
Write: TypeAlias = Callable[
    [str, Iterable[VideoJob[Any]], Waveforms], SideFile
]  # one shard, from its videos in plan order


@dataclass(frozen=True)
class DecodeTask:
    """One video to decode. For relabelling, `times` holds the frames' times of each of its clips: no sound then."""

    shard: str
    path: str
    key: str
    number: int  # position in the plan's order
    times: list[list[float]] | None = None
    sha256: str | None = None  # what the file must still be


@dataclass(frozen=True)
class ClipRecord:
    """One decoded clip without its pictures (in a slot) and its sound (in the spool)."""

    index: int
    frames: int
    windows: int
    start: float
    seconds: float
    samples: int
    asked: list[float]
    got: list[float]
    still: bool
    jpegs: list[bytes]


@dataclass(frozen=True)
class DecodeResult:
    """The end of a video: good, or rejected with a reason."""

    reason: str | None = None
    detail: str = ""
    bytes: int = -1
    sha256: str = ""
    media_seconds: float = 0.0
    tail_seconds_cut: float = 0.0
    decode_errors: int = 0
    dropped: list[str] = field(default_factory=list)


def crashed(exit_code: int | None) -> DecodeResult:
    return DecodeResult("crashed", f"the decoder's process ended with exit code {exit_code}")


def stalled(seconds: float) -> DecodeResult:
    return DecodeResult("stalled", f"no progress for {seconds:g} s")
