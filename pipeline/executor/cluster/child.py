"""The process beside a Ray worker that decodes: what hangs, bloats or crashes it costs a video, and no worker of Ray's.

It imports neither Ray nor torch. So a Ray worker that dies tells of its node and not of a video, and may be retried.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from ctypes import c_double
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import DecodeConfig, decode, head_of, shield
from pipeline.executor.job import ClipRecord, DecodeResult, DecodeTask, crashed, stalled

SPAWN = multiprocessing.get_context("spawn")
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Decoded:
    """A clip on its way out of the process: pictures of every view, (frames, crop, crop, 3) uint8, and its sound."""

    head: ClipRecord
    pictures: list[NDArray[np.uint8]]
    waveform: NDArray[np.int16]


def run_child(pipe: Connection, memory_gigabytes: float, clock: c_double) -> None:
    """Loop of the process: a Task and its Decoding in; each clip out as Decoded, at the end the Summary."""
    shield(memory_gigabytes)

    def touch() -> None:
        clock.value = time.monotonic()

    try:
        while True:
            task, decoding = pipe.recv()

            def hand_over(clip: DecodedClip, decoding: DecodeConfig = decoding) -> None:
                pipe.send(Decoded(head_of(clip, decoding), clip.pictures, clip.waveform))
                touch()  # the pipe may have been full for long

            touch()
            pipe.send(decode(task, decoding, hand_over, touch))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the Ray worker is gone, or has closed us


class Child:
    """The Ray worker's side of that process, which is started when there is none."""

    def __init__(self, memory_gigabytes: float) -> None:
        self._memory_gigabytes = memory_gigabytes
        self._process: SpawnProcess | None = None
        self._pipe: Connection
        self._clock = RawValue(c_double, 0.0)

    def decode(
        self, task: DecodeTask, decoding: DecodeConfig, stall_seconds: float
    ) -> Iterator[Decoded | DecodeResult]:
        """The clips of one video in order, and its Summary last, whatever happens to the process."""
        if self._process is None or not self._process.is_alive():
            self._start()
        self._clock.value = time.monotonic()
        ended = False
        with TemporaryDirectory(prefix="soundnet-") as place:  # on this node, for a video that is copied from a URL
            self._pipe.send((task, replace(decoding, spool=Path(place))))
            try:
                while not ended:
                    message = self._receive(stall_seconds)
                    ended = isinstance(message, DecodeResult)
                    yield message
            finally:
                if not ended:
                    self._end()  # nobody listens any more, and the next video must not hear of this one

    def _receive(self, stall_seconds: float) -> Decoded | DecodeResult:
        began = time.monotonic()  # while Ray kept us waiting, a full pipe may have kept the process waiting
        while not self._pipe.poll(POLL_SECONDS):
            if time.monotonic() - max(began, self._clock.value) > stall_seconds:
                self._end()
                return stalled(stall_seconds)
        try:
            message: Decoded | DecodeResult = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            return crashed(self._end())
        return message

    def _start(self) -> None:
        self._end()
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=run_child, args=(theirs, self._memory_gigabytes, self._clock), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> int | None:
        """Its exit code, where there was a process."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        self._pipe.close()
        process.kill()
        process.join()
        return process.exitcode


# Starting a process costs more than decoding most videos, and Ray gives tasks nothing else that lasts.
resident = lru_cache(maxsize=1)(Child)
