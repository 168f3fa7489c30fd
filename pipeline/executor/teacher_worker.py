"""A teacher process: holds every teacher network on one device and labels batches of clips out of the slots."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.decoder.crop import ResizeCrop
from pipeline.executor.job import Clip, Posteriors
from pipeline.executor.slots import SPAWN, Slots
from pipeline.teachers.teacher import Teacher, TeacherSpec
from pipeline.teachers.timm_models import input_transform
from shards.format.manifest import TeacherCard


@dataclass(frozen=True)
class TeacherConfig:
    """What a teacher process needs to know once."""

    heads: dict[str, tuple[TeacherSpec, TeacherCard]]
    views: list[ResizeCrop]
    frames: int  # pictures a slot has room for
    precision: str
    threads: int  # of the CPU; fixed, since the order of a sum depends on it


class Teachers:
    """Every teacher network, on one device of this process."""

    def __init__(self, labelling: TeacherConfig, device: str) -> None:
        torch.set_num_threads(labelling.threads)
        self._heads = {
            head: (Teacher(spec, card, device, labelling.precision), labelling.views.index(input_transform(spec).view))
            for head, (spec, card) in labelling.heads.items()
        }

    def label(self, pictures: Sequence[Sequence[NDArray[np.uint8]]], windows: Sequence[int]) -> list[Posteriors]:
        """For each clip {head: (its windows, classes)}; `pictures` has its (frames, crop, crop, 3) of every view."""
        labelled: list[Posteriors] = [{} for _ in pictures]
        for head, (teacher, view) in self._heads.items():
            frames = np.concatenate([views[view] for views in pictures])  # (frames of the batch, crop, crop, 3)
            ends = np.cumsum([len(views[view]) for views in pictures])[:-1]
            split = np.split(teacher.posteriors(frames), ends)
            for posteriors, count, by_frame in zip(labelled, windows, split, strict=True):
                posteriors[head] = window_posteriors(by_frame, count)
        return labelled


@dataclass(frozen=True)
class SlotClip:
    """A clip of a batch: where its pictures lie, and how many label windows they make."""

    slot: int
    frames: int
    windows: int


def run_teacher_worker(pipe: Connection, labelling: TeacherConfig, device: str, slots_name: str, count: int) -> None:
    """Loop of the process: `ready` out once, then lists of SlotClip in, {head: posteriors (windows, classes)} out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    slots = Slots.attach(slots_name, labelling.views, labelling.frames, count)
    teachers = Teachers(labelling, device)
    try:
        pipe.send("ready")
        while True:
            batch: list[SlotClip] = pipe.recv()
            pictures = [slots.pictures(clip.slot, clip.frames) for clip in batch]
            pipe.send(teachers.label(pictures, [clip.windows for clip in batch]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the executor is gone, or has closed us
    finally:
        slots.close()


@dataclass
class TeacherWorker:
    """A teacher process and the batch it is at."""

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    batch: list[Clip[int]] | None = None

    @classmethod
    def start(cls, labelling: TeacherConfig, device: str, slots: Slots) -> TeacherWorker:
        ours, theirs = SPAWN.Pipe()
        arguments = (theirs, labelling, device, slots.memory.name, slots.count)
        process = SPAWN.Process(target=run_teacher_worker, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def take(self, batch: list[Clip[int]]) -> None:
        self.batch = batch
        self.pipe.send([SlotClip(clip.place, clip.head.frames, clip.head.windows) for clip in batch])


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
