"""The process beside a Ray worker that decodes: what hangs, bloats or crashes it costs a video, and no Ray worker.

It imports neither Ray nor torch. So a Ray worker that dies tells of its node and not of a video, and may be retried.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from ctypes import c_double
from dataclasses import replace
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import DecodeConfig, decode, encode_clip, spooling
from pipeline.executor.decode_worker import CLOSED, shield, spawn
from pipeline.executor.job import ClipMembers, ClipRecord, DecodeResult, DecodeTask, crashed, stalled

POLL_SECONDS = 0.5
# A clip: its pictures, (frames, crop, crop, 3) for every crop, its members of the shard, and what else is kept of it.
Decoded: TypeAlias = tuple[list[NDArray[np.uint8]], ClipMembers, ClipRecord]


def run_child(pipe: Connection, memory_gigabytes: float, clock: c_double) -> None:
    """The process's end of the pipe: (DecodeTask, DecodeConfig) in; each Decoded out, and a DecodeResult last."""
    shield(memory_gigabytes)

    def touch() -> None:
        clock.value = time.monotonic()

    def decode_into_pipe(task: DecodeTask, config: DecodeConfig) -> DecodeResult:
        def on_clip(clip: DecodedClip) -> None:
            record, members = encode_clip(clip, config)
            pipe.send((clip.pictures, members, record))
            touch()  # the pipe may have been full for long

        touch()
        return decode(task, config, on_clip, touch)

    try:
        while True:
            pipe.send(decode_into_pipe(*pipe.recv()))
    except CLOSED:
        pass  # the Ray worker is gone, or has closed us


class Child:
    """The Ray worker's end: a process that is started when there is none."""

    def __init__(self, memory_gigabytes: float) -> None:
        self._memory_gigabytes = memory_gigabytes
        self._process: SpawnProcess | None = None
        self._pipe: Connection
        self._clock = RawValue(c_double, 0.0)

    def decode(
        self, task: DecodeTask, config: DecodeConfig, spool: Path | None, stall_seconds: float
    ) -> Iterator[Decoded | DecodeResult]:
        """The clips of one video in order, and its result last, whatever happens to the process."""
        if self._process is None or not self._process.is_alive():
            self._end()
            self._process, self._pipe = spawn(run_child, self._memory_gigabytes, self._clock)
        self._clock.value = time.monotonic()
        ended = False
        with spooling(spool) as place:  # on this node, for a video that is copied from a URL
            self._pipe.send((task, replace(config, spool=place)))
            try:
                while not ended:
                    message = self._receive(stall_seconds)
                    ended = isinstance(message, DecodeResult)
                    yield message
            finally:
                if not ended:
                    self._end()  # what is still in the pipe must not be taken for the next video's

    def _receive(self, stall_seconds: float) -> Decoded | DecodeResult:
        began = time.monotonic()  # while Ray kept us waiting, a full pipe may have kept the process waiting
        while not self._pipe.poll(POLL_SECONDS):
            if time.monotonic() - max(began, self._clock.value) > stall_seconds:
                self._end()
                return stalled(stall_seconds)
        try:
            message: Decoded | DecodeResult = self._pipe.recv()
        except CLOSED:
            return crashed(self._end())
        return message

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
