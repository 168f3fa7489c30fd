"""A decode worker: a process that decodes, so that what hangs, bloats or crashes it costs one video and nothing else.

    executor             pipe            worker
    (DecodeTask, clips)  -->             the pictures of its first clips are not wanted: an earlier try gave them
                         <--  ClipRecord for each clip but the last: its pictures and its members are in the spool
                         <--  the last ClipRecord, where there is one, and the DecodeResult: a message less a video

In shared memory are a clock, which tells when the worker last read a packet, and a flag that holds it behind its next
clip. It imports no torch.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_bool, c_double
from dataclasses import dataclass
from io import FileIO
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.executor.decode_task import DecodeConfig, decode, encode_clip
from pipeline.executor.job import ClipMembers, ClipRecord, DecodeResult, DecodeTask, VideoJob

SPAWN = multiprocessing.get_context("spawn")  # children import what they need, and inherit no pipe of a neighbour
Place: TypeAlias = tuple[int, int]  # of a clip's pictures in the spool: the numbers of its task and of the clip
HELD_SECONDS = 0.02  # between two looks at the flag
NAME = Path("/proc/self/comm")
CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)  # of a pipe whose other end has closed or died


@dataclass
class DecodeWorker:
    """The executor's end: a decode worker and the video it is at."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double  # when it last made progress
    held: c_bool  # it is to wait behind the clip in hand
    config: DecodeConfig
    job: VideoJob[Place] | None = None

    @classmethod
    def start(cls, config: DecodeConfig) -> DecodeWorker:
        clock, held = RawValue(c_double, time.monotonic()), RawValue(c_bool, False)
        return cls(*spawn(run_decode_worker, config, clock, held), clock, held, config)

    def take(self, job: VideoJob[Place]) -> None:
        self.job, self.clock.value = job, time.monotonic()
        with contextlib.suppress(*CLOSED):  # of a dead worker, `receive` will tell
            self.pipe.send((job.begin(), len(job.clips)))

    def receive(self) -> int:
        """Wait for a message and enter it in the job. Returns the bytes that the spool has got by it.

        Raises one of CLOSED if the process has ended.
        """
        message: tuple[ClipRecord | None, DecodeResult | None] = self.pipe.recv()
        record, result = message
        assert self.job is not None
        spooled = 0
        if record is not None and self.job.add(record, (self.job.task.number, record.index)):
            spooled = self.config.spooled_bytes(record)
        if result is not None:
            self.job.end(result)
            self.job = None
        return spooled

    def idle_seconds(self) -> float:
        """Since it last read a packet, or was held."""
        return 0.0 if self.job is None else time.monotonic() - self.clock.value


def run_decode_worker(pipe: Connection, config: DecodeConfig, clock: c_double, held: c_bool) -> None:
    """The worker's end, until the pipe is closed."""
    shield(config.memory_gigabytes)

    def touch() -> None:
        clock.value = time.monotonic()

    def decode_into_spool(task: DecodeTask, known: int) -> tuple[ClipRecord | None, DecodeResult]:
        """Returns what is to be sent last."""
        numbers, last = itertools.count(), None

        def on_clip(clip: DecodedClip) -> None:
            nonlocal last
            record, members = encode_clip(clip, config)
            if next(numbers) >= known:
                with open(pictures_path(config.spool, (task.number, clip.index)), "wb", buffering=0) as stream:
                    write_all(stream, *(np.ascontiguousarray(pictures).data for pictures in clip.pictures))
            write_all(spool, members.sound, members.frames)
            if last is not None:
                pipe.send((last, None))
            last = record
            while held.value:
                touch()
                time.sleep(HELD_SECONDS)

        with open(members_path(config.spool, task), "wb", buffering=0) as spool:
            result = decode(task, config, on_clip, touch)
        return last, result

    try:
        while True:
            pipe.send(decode_into_spool(*pipe.recv()))
    except CLOSED:
        pass  # the executor is gone, or has closed us


def members_path(spool: Path, task: DecodeTask) -> Path:
    """Where the members of a video wait until they are in the shard: one clip after another, sound and frames."""
    return spool / f"{task.number:09d}.members"


def pictures_path(spool: Path, place: Place) -> Path:
    """Where the pictures of a clip wait until they are labelled: uint8 (frames, crop, crop, 3), crop after crop."""
    number, index = place
    return spool / f"{number:09d}-{index:05d}.rgb"


def write_all(stream: FileIO, *blocks: bytes | memoryview) -> None:
    """What a disk has no room for is an error here, and not when the file is closed."""
    for block in blocks:
        rest = memoryview(block).cast("B")
        while rest:
            rest = rest[stream.write(rest) :]


def pictures_at(path: Path, frames: int, crops: Sequence[ResizeCrop]) -> list[NDArray[np.uint8]]:
    """(frames, crop, crop, 3) for every crop."""
    pixels, arrays, offset = np.fromfile(path, np.uint8), [], 0
    for geometry in crops:
        shape = (frames, geometry.crop, geometry.crop, 3)
        arrays.append(pixels[offset : offset + math.prod(shape)].reshape(shape))
        offset += math.prod(shape)
    return arrays


def spooled(spool: Path, job: VideoJob[Any]) -> Iterator[ClipMembers]:
    """The members of a video, clip by clip."""
    with open(members_path(spool, job.task), "rb", buffering=0) as stream:
        for clip in job.clips:
            yield ClipMembers(stream.read(clip.record.sound_bytes), stream.read(clip.record.frames_bytes))


def spawn(run: Callable[..., None], *arguments: object) -> tuple[SpawnProcess, Connection]:
    """Start a process that calls run(its end of a pipe, *arguments). Returns the process and our end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=run_named, name=run.__name__, args=(run, theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def run_named(run: Callable[..., None], *arguments: object) -> None:
    """Under a name by which `top` and `ps -o comm` tell the processes apart: decode_worker, teacher_worker, ..."""
    if NAME.exists():
        NAME.write_text(run.__name__.removeprefix("run_"))
    run(*arguments)


def shield(memory_gigabytes: float) -> None:
    """Make this a decode process: it ends with its parent alone, even if it is stuck in a decoder.

    An allocation of more memory than this, beyond what the process starts with, fails as an error with a name.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    end_with_parent()
    statm = Path("/proc/self/statm")
    if statm.exists():
        at_start = int(statm.read_text().split()[5]) * resource.getpagesize()  # data and stack
        limit = at_start + int(memory_gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def end_with_parent() -> None:
    """From here on, whatever this process is at."""

    def wait_and_end() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()
