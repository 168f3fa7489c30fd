"""A decode worker: a process that decodes, so that what hangs, bloats or crashes it costs one video and nothing else.

    executor         pipe            worker
    DecodeTask       -->
                     <--  "want"     for each clip: it is decoded, its sound is in the spool
    number of a slot -->
                     <--  ClipRecord its pictures are in the slot
                     <--  DecodeResult

A clock in shared memory tells when the worker last read a packet. It imports no torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_double
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import DecodeConfig, decode, record_of
from pipeline.executor.job import ClipRecord, DecodeResult, DecodeTask, VideoJob
from pipeline.executor.slots import Slots

SPAWN = multiprocessing.get_context("spawn")  # children import what they need, and inherit no pipe of a neighbour
CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)  # of a pipe whose other end has closed or died


@dataclass
class DecodeWorker:
    """The executor's end: a decode worker and the video it is at."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double  # when it last made progress
    job: VideoJob[int] | None = None  # whose clips' places are slots
    waits: bool = False  # has a clip in hand and no slot for it
    slot: int | None = None  # granted, and not yet filled

    @classmethod
    def start(cls, config: DecodeConfig, slots: Slots) -> DecodeWorker:
        clock = RawValue(c_double, time.monotonic())
        return cls(*spawn(run_decode_worker, config, slots, clock), clock)

    def take(self, job: VideoJob[int]) -> None:
        self.job = job
        self._send(job.begin())

    def grant(self, slot: int) -> None:
        self.slot, self.waits = slot, False
        self._send(slot)

    def receive(self) -> list[int]:
        """Wait for a message and enter it in the job. Returns the slots that are free then.

        Raises one of CLOSED if the process has ended.
        """
        message: str | ClipRecord | DecodeResult = self.pipe.recv()
        assert self.job is not None
        if isinstance(message, ClipRecord):
            assert self.slot is not None
            slot, self.slot = self.slot, None
            return [] if self.job.add(message, slot) else [slot]
        if isinstance(message, DecodeResult):
            self.job.end(message)
            self.job = None
        else:
            self.waits = True
        return []

    def idle_seconds(self) -> float:
        """Since it last read a packet; none while it waits for us."""
        return 0.0 if self.job is None or self.waits else time.monotonic() - self.clock.value

    def _send(self, message: DecodeTask | int) -> None:
        self.clock.value = time.monotonic()
        with contextlib.suppress(*CLOSED):  # of a dead worker, `receive` will tell
            self.pipe.send(message)


def run_decode_worker(pipe: Connection, config: DecodeConfig, slots: Slots, clock: c_double) -> None:
    """The worker's end, until the pipe is closed."""
    shield(config.memory_gigabytes)

    def touch() -> None:
        clock.value = time.monotonic()

    def into_slot(clip: DecodedClip) -> None:
        sound = memoryview(clip.waveform.tobytes())
        while sound:
            sound = sound[spool.write(sound) :]
        pipe.send("want")
        slot = pipe.recv()
        for target, pictures in zip(slots.pictures(slot, len(clip.got)), clip.pictures, strict=True):
            target[:] = pictures
        pipe.send(record_of(clip, config.keep_frames))

    try:
        while True:
            task: DecodeTask = pipe.recv()
            touch()
            with open(spool_path(config.spool, task), "wb", buffering=0) as spool:
                result = decode(task, config, into_slot, touch)
            pipe.send(result)
    except CLOSED:
        pass  # the executor is gone, or has closed us


def spool_path(spool: Path, task: DecodeTask) -> Path:
    """Where the sound of a video waits: int16, one clip after another."""
    return spool / f"{task.number:09d}.pcm"


def spooled(spool: Path, job: VideoJob[Any]) -> Iterator[NDArray[np.int16]]:
    """The sound of a video, (samples,) clip by clip."""
    with open(spool_path(spool, job.task), "rb") as stream:
        for clip in job.clips:
            yield np.frombuffer(stream.read(2 * clip.record.samples), np.int16)


def spawn(run: Callable[..., None], *arguments: object) -> tuple[SpawnProcess, Connection]:
    """Start a process that calls run(its end of a pipe, *arguments). Returns the process and our end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=run, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def shield(memory_gigabytes: float) -> None:
    """Make this a decode process: it ends with its parent alone, even if it is stuck in a decoder.

    An allocation of more memory than this, beyond what the process starts with, fails as an error with a name.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    statm = Path("/proc/self/statm")
    if statm.exists():
        at_start = int(statm.read_text().split()[5]) * resource.getpagesize()  # data and stack
        limit = at_start + int(memory_gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
