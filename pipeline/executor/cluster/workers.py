"""What runs on the cluster for a video and for a batch: a decode task, and a teacher that stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.cluster.child import POLL_SECONDS, resident
from pipeline.executor.cluster.session import RaySettings
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.job import ClipMembers, ClipRecord, DecodeResult, DecodeTask

if TYPE_CHECKING:  # torch stays out of the processes that decode
    from pipeline.executor.job import Posteriors
    from pipeline.executor.teacher_worker import TeacherConfig, Teachers


RETRIES = 3  # of a video whose Ray worker died, of a batch whose teacher died, of a shard whose task died


@dataclass(frozen=True)
class ClusterConfig:
    """How shards are made on the cluster: the same for all of a run."""

    home: Path  # the driver's working directory, from which relative paths start
    decoding: DecodeConfig
    ray: RaySettings
    spool: Path | None  # on each node; None: its temporary folder
    stall_seconds: float
    batch_clips: int


def decode_video(
    task: DecodeTask, config: ClusterConfig
) -> Iterator[list[NDArray[np.uint8]] | ClipMembers | ClipRecord | DecodeResult]:
    """A streaming task: for each clip its pictures, members and record; at the end two empty ones and the result.

    The record comes last: where it is, pictures and members are there.
    """
    os.chdir(config.home)
    decoding = config.decoding
    for message in resident(decoding.memory_gigabytes).decode(task, decoding, config.spool, config.stall_seconds):
        if isinstance(message, DecodeResult):
            yield []
            yield ClipMembers(b"", b"")
            yield message
        else:
            pictures, members, record = message
            yield pictures
            yield members
            yield record


class TeacherActor:
    """Holds the teachers on one device. Loaded on first use, so that what is wrong with them reaches the caller."""

    def __init__(self, labelling: TeacherConfig, device: str, home: Path, stall_seconds: float) -> None:
        self._labelling, self._device, self._home = labelling, device, home
        self._teachers: Teachers | None = None
        self._clock: float | None = None  # when it last made progress; None while it waits for us
        threading.Thread(target=self._end_if_stalled, args=(stall_seconds,), daemon=True).start()

    def _end_if_stalled(self, stall_seconds: float) -> None:
        """End a process that hangs; Ray then does what it does where one dies."""
        while True:
            time.sleep(POLL_SECONDS)
            clock = self._clock
            if clock is not None and time.monotonic() - clock > stall_seconds:
                os._exit(1)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self._touch()
        try:
            yield
        finally:
            self._clock = None

    def _touch(self) -> None:
        self._clock = time.monotonic()

    def load(self) -> Teachers:
        from pipeline.executor.teacher_worker import Teachers

        if self._teachers is None:
            os.chdir(self._home)
            self._teachers = Teachers(self._labelling, self._device, self._touch)
        return self._teachers

    def ready(self) -> int:
        """Load. Returns the process's id."""
        with self._watched():
            self.load()
        return os.getpid()

    def label(self, *batch: list[NDArray[np.uint8]]) -> list[Posteriors]:
        """Posteriors of each clip; `batch` has its pictures, (frames, crop, crop, 3) for every crop."""
        with self._watched():
            return self.load().label(batch)
