"""A video on its way from the plan to a shard, on this machine or on a cluster: task, clips, posteriors, result."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.videos.keys import segment_text
from shards.format.example import MediaAccount, SoundFacts
from shards.format.sidefile import SideFile
from shards.media.rejects import TRANSIENT

Posteriors = dict[str, NDArray[np.float16]]  # by head, (windows, classes)
Place = TypeVar("Place")
KILLED = ", as the kernel ends one where memory runs out"

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class DecodeTask:
    """One video to decode. For relabelling, `times` holds the frames' times of each of its clips: no sound then."""

    shard: str
    path: str
    key: str
    number: int  # position in the plan's order
    times: list[list[float]] | None = None
    sha256: str | None = None  # what the file must still be
    start: float = 0.0  # seconds from where the file begins, as in a list
    end: float = math.inf
    given: dict[str, str] = field(default_factory=dict)  # by the list, for the json of each clip

    @property
    def name(self) -> str:
        """For people: the path, and which segment of it."""
        segment = segment_text(self.start, self.end)
        return f"{self.path} ({segment} s)" if segment else self.path


@dataclass(frozen=True)
class ClipRecord:
    """What is kept in memory of a decoded clip; its pictures and its members of the shard lie elsewhere."""

    index: int
    start: float  # seconds, as all times here
    seconds: float
    asked: list[float]  # time of each frame
    got: list[float]
    still: bool  # all its frames are one picture
    sound: SoundFacts | None = None  # None where labels alone are wanted
    sound_bytes: int = 0  # of its members, as in ClipMembers
    frames_bytes: int = 0


@dataclass(frozen=True)
class ClipMembers:
    """What a decode process has finished of a clip's part of the shard; either is empty where it is not wanted."""

    sound: bytes
    frames: bytes  # a JPEG of all its frames side by side


@dataclass(frozen=True)
class DecodeResult:
    """The end of a video: good, or rejected with a reason."""

    reason: str | None = None
    detail: str = ""
    bytes: int = -1
    sha256: str = ""
    clips: int = 0
    media_seconds: float = 0.0
    media: MediaAccount = field(default_factory=MediaAccount)
    decode_errors: int = 0
    dropped: list[str] = field(default_factory=list)


def crashed(exit_code: int | None) -> DecodeResult:
    return DecodeResult(
        "crashed", f"the decoder's process ended with exit code {exit_code}{KILLED if exit_code == -9 else ''}"
    )


def stalled(seconds: float) -> DecodeResult:
    return DecodeResult("stalled", f"no progress for {seconds:g} s")


@dataclass
class Clip(Generic[Place]):
    """A clip under way: decoded, and labelled once its posteriors are there. `place` is where its pictures lie."""

    record: ClipRecord
    place: Place
    posteriors: Posteriors | None = None


@dataclass
class VideoJob(Generic[Place]):
    """A video under way: decoded once its result is there, complete once its clips are labelled too.

    A second try begins the video anew, and gives those clips again that the first gave: they stay as they are, since
    they may be in a batch by now. So the bytes are those of a run in which nothing failed.
    """

    task: DecodeTask
    clips: list[Clip[Place]] = field(default_factory=list)
    result: DecodeResult | None = None
    batched: int = 0  # clips handed to a batch so far
    tries: int = 0  # begun
    failed: bool = False  # the first, for what may have been the machine's fault: there is to be a second
    given: int = 0  # clips, by the try under way
    differs: bool = False  # between the tries

    def begin(self) -> DecodeTask:
        """The task, for another try."""
        self.tries += 1
        self.failed, self.given = False, 0
        return self.task

    def add(self, record: ClipRecord, place: Place) -> bool:
        """Enter the next clip of a try; False where an earlier try gave it, and its place is not needed."""
        self.given += 1
        if self.given > len(self.clips):
            self.clips.append(Clip(record, place))
            return True
        self.differs |= record != self.clips[self.given - 1].record
        return False

    def end(self, result: DecodeResult) -> None:
        """Enter the result of a try."""
        if result.reason in TRANSIENT and self.tries == 1:
            self.failed = True
            log.warning("%r is tried once more: %s: %s", self.task.path, result.reason, result.detail)
        elif result.reason is None and (self.differs or self.given < len(self.clips)):
            self.result = replace(result, reason="changed", detail="a second try at it gave other clips than the first")
        else:
            self.result = result

    @property
    def complete(self) -> bool:
        return self.result is not None and all(clip.posteriors is not None for clip in self.clips)


# Called with the path and the result of each video.
OnVideo: TypeAlias = Callable[[str, DecodeResult], None]
# The members of a complete video, clip by clip.
Members: TypeAlias = Callable[[VideoJob[Any]], Iterator[ClipMembers]]
# Writes one shard from its videos in plan order.
Write: TypeAlias = Callable[[str, Iterable[VideoJob[Any]], Members], SideFile]
