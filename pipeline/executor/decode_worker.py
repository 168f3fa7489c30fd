"""The executor's side of its child processes: decode workers and teacher processes, and how they are started."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from ctypes import c_double
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue

from pipeline.executor.decode_task import Decoding, Task, run_decoder
from pipeline.executor.job import Clip, Job
from pipeline.executor.slots import Slots
from pipeline.executor.teacher_worker import Labelling, SlotClip, run_labeller

SPAWN = multiprocessing.get_context("spawn")  # children import what they need, and inherit no pipe of a neighbour


@dataclass
class Decoder:
    """A decode worker and the video it is at."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double  # when it last made progress
    job: Job[int] | None = None  # whose clips' places are slots
    waits: bool = False  # has a clip in hand and no slot for it
    slot: int | None = None  # granted, and not yet filled

    @classmethod
    def start(cls, decoding: Decoding, slots: Slots) -> Decoder:
        ours, theirs = SPAWN.Pipe()
        clock = RawValue(c_double, time.monotonic())
        arguments = (theirs, decoding, slots.memory.name, slots.count, clock)
        process = SPAWN.Process(target=run_decoder, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours, clock)

    def take(self, job: Job[int]) -> None:
        self.job = job
        self._send(job.task)

    def grant(self, slot: int) -> None:
        self.slot, self.waits = slot, False
        self._send(slot)

    def idle_seconds(self) -> float:
        """Since it last read a packet; none while it waits for us."""
        return 0.0 if self.job is None or self.waits else time.monotonic() - self.clock.value

    def _send(self, message: Task | int) -> None:
        self.clock.value = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's pipe says so when it is read
            self.pipe.send(message)


@dataclass
class Labeller:
    """A teacher process and the batch it is at."""

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    batch: list[Clip[int]] | None = None

    @classmethod
    def start(cls, labelling: Labelling, device: str, slots: Slots) -> Labeller:
        ours, theirs = SPAWN.Pipe()
        arguments = (theirs, labelling, device, slots.memory.name, slots.count)
        process = SPAWN.Process(target=run_labeller, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def take(self, batch: list[Clip[int]]) -> None:
        self.batch = batch
        self.pipe.send([SlotClip(clip.place, clip.head.frames, clip.head.windows) for clip in batch])
