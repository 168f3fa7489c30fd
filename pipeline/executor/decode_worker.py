"""The executor's side of its child processes: decode workers and teacher processes, and how they are started."""

from __future__ import annotations

import contextlib
import time
from ctypes import c_double
from dataclasses import dataclass
from functools import partial
from io import FileIO
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import DecodeConfig, decode, head_of, shield
from pipeline.executor.job import DecodeTask, VideoJob
from pipeline.executor.slots import SPAWN, Slots


@dataclass
class DecodeWorker:
    """A decode worker and the video it is at."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double  # when it last made progress
    job: VideoJob[int] | None = None  # whose clips' places are slots
    waits: bool = False  # has a clip in hand and no slot for it
    slot: int | None = None  # granted, and not yet filled

    @classmethod
    def start(cls, decoding: DecodeConfig, slots: Slots) -> DecodeWorker:
        ours, theirs = SPAWN.Pipe()
        clock = RawValue(c_double, time.monotonic())
        arguments = (theirs, decoding, slots.memory.name, slots.count, clock)
        process = SPAWN.Process(target=run_decode_worker, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours, clock)

    def take(self, job: VideoJob[int]) -> None:
        self.job = job
        self._send(job.task)

    def grant(self, slot: int) -> None:
        self.slot, self.waits = slot, False
        self._send(slot)

    def idle_seconds(self) -> float:
        """Since it last read a packet; none while it waits for us."""
        return 0.0 if self.job is None or self.waits else time.monotonic() - self.clock.value

    def _send(self, message: DecodeTask | int) -> None:
        self.clock.value = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's pipe says so when it is read
            self.pipe.send(message)


def run_decode_worker(pipe: Connection, decoding: DecodeConfig, slots_name: str, count: int, clock: c_double) -> None:
    """Loop of the process: a Task in; for each clip `want` out, a slot in, the ClipHead out; a Summary at the end."""
    shield(decoding.memory_gigabytes)
    slots = Slots.attach(slots_name, decoding.views, decoding.spec.frames, count)

    def touch() -> None:
        clock.value = time.monotonic()

    try:
        while True:
            task: DecodeTask = pipe.recv()
            touch()
            with open(spool_path(decoding.spool, task), "wb", buffering=0) as spool:
                hand_over = partial(_into_slot, decoding=decoding, pipe=pipe, slots=slots, spool=spool)
                summary = decode(task, decoding, hand_over, touch)
            pipe.send(summary)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the executor is gone, or has closed us
    finally:
        slots.close()


def spool_path(spool: Path, task: DecodeTask) -> Path:
    return spool / f"{task.number:09d}.pcm"


def _into_slot(clip: DecodedClip, *, decoding: DecodeConfig, pipe: Connection, slots: Slots, spool: FileIO) -> None:
    """Spool the sound, ask for a slot, wait until it is this clip's turn, fill it."""
    sound = memoryview(clip.waveform.tobytes())
    while sound:
        sound = sound[spool.write(sound) :]
    pipe.send("want")
    slot = pipe.recv()
    for target, pictures in zip(slots.pictures(slot, len(clip.got)), clip.pictures, strict=True):
        target[:] = pictures
    pipe.send(head_of(clip, decoding))
