"""A teacher process: holds every teacher network on one device and labels batches of clips out of the slots."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.decoder.reader import View
from pipeline.executor.label import window_posteriors
from pipeline.executor.slots import Slots
from pipeline.teachers.teacher import Teacher, TeacherSpec
from shards.format.manifest import TeacherCard

Posteriors = dict[str, NDArray[np.float16]]


@dataclass(frozen=True)
class Labelling:
    """What a teacher process needs to know once."""

    heads: dict[str, tuple[TeacherSpec, TeacherCard]]
    views: list[View]
    frames: int  # pictures a slot has room for
    precision: str
    threads: int  # of the CPU; fixed, since the order of a sum depends on it


class Teachers:
    """Every teacher network, on one device of this process."""

    def __init__(self, labelling: Labelling, device: str) -> None:
        torch.set_num_threads(labelling.threads)
        self._heads = {
            head: (Teacher(spec, card, device, labelling.precision), labelling.views.index(spec.input_transform.view))
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


def run_labeller(pipe: Connection, labelling: Labelling, device: str, slots_name: str, count: int) -> None:
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
