"""A teacher process: it holds every teacher network on one device and labels batches of clips out of the spool.

executor                       pipe             worker
                               <--  "ready"     once, when the networks are loaded
(place, frames) of each clip   -->
                               <--  Posteriors of each clip, whose pictures are gone from the spool

A clock in shared memory tells when the worker last loaded a network or computed a layer.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from ctypes import c_double
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.decoder.crop import ResizeCrop
from pipeline.executor.decode_worker import CLOSED, Place, pictures_at, pictures_path, spawn
from pipeline.executor.job import Clip, Posteriors
from pipeline.teachers.network import input_transform
from pipeline.teachers.spec import TeacherSpec
from pipeline.teachers.teacher import Teacher
from shards.allocator import keep_freed_memory
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard


@dataclass(frozen=True)
class TeacherConfig:
    """What clips are labelled by: the same for all of a run."""

    heads: dict[str, tuple[TeacherSpec, TeacherCard]]
    crops: list[ResizeCrop]  # the geometries of the pictures, as in DecodeConfig
    clip: ClipSpec
    precision: str
    threads: int  # of the CPU; fixed, since the order of a sum depends on it


@dataclass
class TeacherWorker:
    """The executor's end: a teacher process and the batch it is at."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double  # when it last made progress
    ready: bool = False
    batch: list[Clip[Place]] | None = None

    @classmethod
    def start(cls, config: TeacherConfig, device: str, spool: Path) -> TeacherWorker:
        clock = RawValue(c_double, time.monotonic())
        return cls(*spawn(run_teacher_worker, config, device, spool, clock), clock)

    def take(self, batch: list[Clip[Place]]) -> None:
        self.batch = batch
        self.clock.value = time.monotonic()
        with contextlib.suppress(*CLOSED):  # of a dead process, `receive` will tell
            self.pipe.send([(clip.place, len(clip.record.got)) for clip in batch])

    def receive(self) -> None:
        """Wait for a message and enter it in the batch. Raises UserError if the process has ended."""
        try:
            message: str | list[Posteriors] = self.pipe.recv()
        except CLOSED:
            self.process.join()
            raise UserError(
                f"a teacher process ended with exit code {self.process.exitcode}: what it said stands above. If its "
                "device or this machine ran out of memory, give batch_clips a smaller value; finished shards stay"
            ) from None
        if isinstance(message, str):
            self.ready = True
            return
        assert self.batch is not None
        labelled, self.batch = self.batch, None
        for clip, posteriors in zip(labelled, message, strict=True):
            clip.posteriors = posteriors

    def require_progress(self, stall_seconds: float) -> None:
        """Raise UserError where it has made none for so long, while it loads or has a batch."""
        is_idle = self.ready and self.batch is None
        if not is_idle and time.monotonic() - self.clock.value > stall_seconds:
            raise UserError(
                f"a teacher process ({self.process.pid}) has made no progress for {stall_seconds:g} s while it "
                f"{'labelled a batch' if self.ready else 'loaded'}: its device seems to hang (nvidia-smi, dmesg). Mend "
                "it and run the same command again, finished shards stay; if it is only slow, give stall_seconds a "
                "larger value, or batch_clips a smaller one"
            )


def run_teacher_worker(pipe: Connection, config: TeacherConfig, device: str, spool: Path, clock: c_double) -> None:
    """The worker's end, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop

    def touch() -> None:
        clock.value = time.monotonic()

    teachers = Teachers(config, device, touch)
    try:
        pipe.send("ready")
        while True:
            batch: list[tuple[Place, int]] = pipe.recv()
            paths = [pictures_path(spool, place) for place, _ in batch]
            frames = [frames for _, frames in batch]
            pipe.send(teachers.label([pictures_at(*each, config.crops) for each in zip(paths, frames, strict=True)]))
            for path in paths:
                path.unlink()
    except CLOSED:
        pass  # the executor is gone, or has closed us


class Teachers:
    """Every teacher network, on one device of this process; `touch` is called whenever one has made progress."""

    def __init__(self, config: TeacherConfig, device: str, touch: Callable[[], None] = lambda: None) -> None:
        if device == "cpu":
            keep_freed_memory()
        torch.set_num_threads(config.threads)
        self._frames_per_window = config.clip.frames_per_window
        self._heads: dict[str, tuple[Teacher, int]] = {}
        for head, (spec, card) in config.heads.items():
            touch()
            teacher = Teacher(spec, card, device, config.precision)
            teacher.on_layer(touch)
            self._heads[head] = teacher, config.crops.index(input_transform(spec).view)

    def label(self, batch: Sequence[Sequence[NDArray[np.uint8]]]) -> list[Posteriors]:
        """Posteriors of each clip, of which `batch` has the pictures, (frames, crop, crop, 3) for every crop."""
        labelled: list[Posteriors] = [{} for _ in batch]
        for head, (teacher, crop) in self._heads.items():
            frames = np.concatenate([pictures[crop] for pictures in batch])  # (frames of the batch, crop, crop, 3)
            ends = np.cumsum([len(pictures[crop]) for pictures in batch])[:-1]
            split = np.split(teacher.posteriors(frames), ends)
            for posteriors, by_frame in zip(labelled, split, strict=True):
                posteriors[head] = window_posteriors(by_frame, len(by_frame) // self._frames_per_window)
        return labelled


def window_posteriors(frame_posteriors: NDArray[np.float32], windows: int) -> NDArray[np.float16]:
    """The mean over each window's frames, normalised, then rounded: float16 (windows, classes).

    `frame_posteriors` is (frames, classes) with the frames in order and equally many for each window. A stored row
    sums to 1 within 2^-11 + classes * 2^-25, the rounding of its entries. Shifting that remainder onto small classes
    would distort them more than it mends; a reader that needs the exact sum divides by it. Raises ValueError.
    """
    frames, classes = frame_posteriors.shape
    if windows < 1 or frames < windows or frames % windows:
        raise ValueError(f"{frames} frames do not divide into {windows} windows")
    mean = frame_posteriors.astype(np.float64).reshape(windows, frames // windows, classes).mean(axis=1)
    total = mean.sum(axis=1, keepdims=True)
    if not np.all(np.isfinite(total)) or np.any(total <= 0):
        raise ValueError(f"posteriors must be finite with a positive sum, not sums of {total.ravel().tolist()}")
    rounded: NDArray[np.float16] = (mean / total).astype(np.float16)
    return rounded
