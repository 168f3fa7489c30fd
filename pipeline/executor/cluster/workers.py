"""What runs on the cluster for a video and for a batch: a decode task, and a teacher that stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.cluster.child import resident
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.job import ClipRecord, DecodeResult, DecodeTask

if TYPE_CHECKING:  # torch stays out of the processes that decode
    from pipeline.executor.job import Posteriors
    from pipeline.executor.teacher_worker import TeacherConfig, Teachers


@dataclass(frozen=True)
class ClusterConfig:
    """What a shard's task needs to know, whichever shard it is."""

    home: Path  # the driver's working directory, from which relative paths start
    decoding: DecodeConfig
    stall_seconds: float
    cpus_per_decoder: float
    batch_clips: int
    videos: int
    clips: int


def decode_video(
    task: DecodeTask, work: ClusterConfig
) -> Iterator[list[NDArray[np.uint8]] | NDArray[np.int16] | ClipRecord | DecodeResult]:
    """A streaming task: for each clip its pictures, its sound and its head; at the end two empty ones and the Summary.

    The head comes last, so that who has it knows that its pictures and sound are there.
    """
    os.chdir(work.home)
    for message in resident(work.decoding.memory_gigabytes).decode(task, work.decoding, work.stall_seconds):
        if isinstance(message, DecodeResult):
            yield []
            yield np.zeros(0, np.int16)
            yield message
        else:
            yield message.pictures
            yield message.waveform
            yield message.head


class TeacherActor:
    """Holds the teachers on one device. Loaded on first use, so that what is wrong with them reaches the caller."""

    def __init__(self, labelling: TeacherConfig, device: str, home: Path) -> None:
        self._labelling, self._device, self._home = labelling, device, home
        self._teachers: Teachers | None = None

    def load(self) -> Teachers:
        from pipeline.executor.teacher_worker import Teachers

        if self._teachers is None:
            os.chdir(self._home)
            self._teachers = Teachers(self._labelling, self._device)
        return self._teachers

    def ready(self) -> int:
        """Load, and tell the process's id."""
        self.load()
        return os.getpid()

    def label(self, windows: list[int], *pictures: list[NDArray[np.uint8]]) -> list[Posteriors]:
        """One batch: the pictures of each clip, (frames, crop, crop, 3) of every view."""
        return self.load().label(pictures, windows)
