"""A teacher process: holds every teacher network on one device and labels batches of clips out of the slots."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.frames import View
from pipeline.label import window_posteriors
from pipeline.slots import Slots
from pipeline.teachers import Teacher, TeacherSpec
from shards.manifest import TeacherCard

Posteriors = dict[str, NDArray[np.float16]]


@dataclass(frozen=True)
class Labelling:
    """What a teacher process needs to know once."""

    heads: dict[str, tuple[TeacherSpec, TeacherCard]]
    views: list[View]
    frames: int  # pictures a slot has room for
    precision: str
    threads: int  # of the CPU; fixed, since the order of a sum depends on it


@dataclass(frozen=True)
class SlotClip:
    """A clip of a batch: where its pictures lie, and how many label windows they make."""

    slot: int
    frames: int
    windows: int


def run_labeller(pipe: Connection, labelling: Labelling, device: str, slots_name: str, count: int) -> None:
    """Loop of the process: `ready` out once, then lists of SlotClip in, {head: posteriors (windows, classes)} out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    torch.set_num_threads(labelling.threads)
    slots = Slots.attach(slots_name, labelling.views, labelling.frames, count)
    teachers = {
        head: (Teacher(spec, card, device, labelling.precision), labelling.views.index(spec.transform.view))
        for head, (spec, card) in labelling.heads.items()
    }
    try:
        pipe.send("ready")
        while True:
            batch: list[SlotClip] = pipe.recv()
            pipe.send(_label(batch, teachers, slots))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the executor is gone, or has closed us
    finally:
        slots.close()


def _label(batch: list[SlotClip], teachers: dict[str, tuple[Teacher, int]], slots: Slots) -> list[Posteriors]:
    pictures = [slots.pictures(clip.slot, clip.frames) for clip in batch]
    labelled: list[Posteriors] = [{} for _ in batch]
    ends = np.cumsum([clip.frames for clip in batch])[:-1]
    for head, (teacher, view) in teachers.items():
        frames = np.concatenate([arrays[view] for arrays in pictures])  # (frames of the batch, crop, crop, 3)
        for posteriors, clip, by_frame in zip(labelled, batch, np.split(teacher.posteriors(frames), ends), strict=True):
            posteriors[head] = window_posteriors(by_frame, clip.windows)
    return labelled
