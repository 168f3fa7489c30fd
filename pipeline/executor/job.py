"""A video on its way through stage one, from the plan to a shard, whoever carries it: this machine or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.decode_task import ClipHead, Summary, Task
from pipeline.executor.teacher_worker import Posteriors
from shards.format.sidefile import SideFile

Place = TypeVar("Place")


@dataclass
class Clip(Generic[Place]):
    """A decoded clip and where its pictures lie, from the decoder to its posteriors."""

    head: ClipHead
    place: Place
    posteriors: Posteriors | None = None


@dataclass
class Job(Generic[Place]):
    """A video under way: decoded once its summary is there, complete once its clips are labelled too."""

    task: Task
    clips: list[Clip[Place]] = field(default_factory=list)
    summary: Summary | None = None
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
    summary: Summary
    clips: int


Tell: TypeAlias = Callable[[Outcome], None]
Waveforms: TypeAlias = Callable[[Job[Any]], Iterator[NDArray[np.int16]]]  # the sound of a complete video, clip by clip
Write: TypeAlias = Callable[[str, Iterable[Job[Any]], Waveforms], SideFile]  # one shard, from its videos in plan order
