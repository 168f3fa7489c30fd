"""The executor on one machine: decode workers feed batched teacher processes through shared-memory slots.

What decides a byte of the result follows the plan's order and not that of arrival: batches are cut in clip order within
a shard, and videos come out in the order they went in. Only the waiting differs with the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection, wait

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.batches import Batches
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.decode_worker import DecodeWorker, spool_path
from pipeline.executor.job import (
    Clip,
    ClipRecord,
    DecodeResult,
    DecodeTask,
    Posteriors,
    Tell,
    VideoJob,
    Write,
    crashed,
    stalled,
)
from pipeline.executor.slots import Slots
from pipeline.executor.teacher_worker import TeacherConfig, TeacherWorker
from shards.errors import UserError
from shards.format.sidefile import SideFile

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class LocalConfig:
    """How much of the machine is used; none of it changes a result, but for the kind of device and `batch_clips`."""

    devices: list[str]  # one entry a teacher process
    decoders: int
    slots: int
    batch_clips: int
    stall_seconds: float


class LocalExecutor:
    """Labels videos. Use as a context; `label` yields each video when it is complete, `shards` each shard."""

    def __init__(self, decoding: DecodeConfig, labelling: TeacherConfig, machine: LocalConfig) -> None:
        self._decoding, self._machine = decoding, machine
        self._slots = Slots.create(
            decoding.views, decoding.spec.frames, wanted=machine.slots, least=machine.batch_clips
        )
        self._free = deque(range(self._slots.count))
        self._order: deque[VideoJob[int]] = deque()  # under way, in the plan's order
        self._uncut: Batches[int] = Batches(machine.batch_clips)
        self._batches: deque[list[Clip[int]]] = deque()  # cut, and waiting for a teacher
        self._labellers = [TeacherWorker.start(labelling, device, self._slots) for device in machine.devices]
        self._decoders = [DecodeWorker.start(decoding, self._slots) for _ in range(machine.decoders)]

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        processes = [child.process for child in self._decoders] + [child.process for child in self._labellers]
        for process in processes:
            process.kill()
            process.join()
        self._slots.destroy()

    def shards(self, tasks: Iterable[DecodeTask], write: Write, tell: Tell) -> Iterator[SideFile]:
        """Have each shard written as its videos are complete; `tell` hears of each video."""
        for shard, jobs in groupby(self.label(tasks), key=lambda job: job.task.shard):
            yield write(shard, self._told(jobs, tell), self._waveforms)

    def _told(self, jobs: Iterable[VideoJob[int]], tell: Tell) -> Iterator[VideoJob[int]]:
        for job in jobs:
            tell(job.outcome)
            yield job
            spool_path(self._decoding.spool, job.task).unlink(missing_ok=True)

    def _waveforms(self, job: VideoJob[int]) -> Iterator[NDArray[np.int16]]:
        with open(spool_path(self._decoding.spool, job.task), "rb") as stream:
            for clip in job.clips:
                yield np.frombuffer(stream.read(2 * clip.head.samples), np.int16)

    def label(self, tasks: Iterable[DecodeTask]) -> Iterator[VideoJob[int]]:
        """Yield every video in the order given, labelled or with the reason it is rejected for.

        Raises UserError if a teacher dies.
        """
        self._tasks = iter(tasks)
        self._upcoming = next(self._tasks, None)
        while self._upcoming is not None or self._order:
            self._assign()
            self._grant()
            self._batches.extend(self._uncut.cut(self._upcoming.shard if self._upcoming else None))
            self._dispatch()
            self._receive()
            self._kill_stalled()
            while self._order and self._order[0].complete:
                yield self._order.popleft()

    def _assign(self) -> None:
        for decoder in self._decoders:
            if decoder.job is None and self._upcoming is not None:
                job: VideoJob[int] = VideoJob(self._upcoming)
                self._order.append(job)
                self._uncut.add(job)
                decoder.take(job)
                self._upcoming = next(self._tasks, None)

    def _grant(self) -> None:
        """Slots go out in plan order, and one batch's worth is kept for the first video that is not decoded yet.

        That video's clips are the next that a batch waits for. Were later videos allowed to take the last slots, they
        would hold them until a batch that cannot be cut. Kept this way, a full batch is there whenever no slot is free.
        """
        first = next((job for job in self._order if job.summary is None), None)
        waiting = [(decoder.job.task.number, decoder) for decoder in self._decoders if decoder.waits and decoder.job]
        for _, decoder in sorted(waiting, key=lambda pair: pair[0]):
            reserve = 0 if decoder.job is first else self._machine.batch_clips
            if len(self._free) > reserve:
                decoder.grant(self._free.popleft())

    def _dispatch(self) -> None:
        for labeller in self._labellers:
            if labeller.ready and labeller.batch is None and self._batches:
                labeller.take(self._batches.popleft())

    def _receive(self) -> None:
        """Wait for the next messages, and take them in."""
        decoders = {decoder.pipe: decoder for decoder in self._decoders}
        labellers = {labeller.pipe: labeller for labeller in self._labellers}
        for pipe in wait([*decoders, *labellers], timeout=POLL_SECONDS):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except (EOFError, ConnectionResetError):
                message = None  # the process has ended
            if pipe in labellers:
                self._take_posteriors(labellers[pipe], message)
            else:
                self._take_decoded(decoders[pipe], message)

    def _take_posteriors(self, labeller: TeacherWorker, message: str | list[Posteriors] | None) -> None:
        if message is None:
            labeller.process.join()
            code = labeller.process.exitcode
            raise UserError(
                f"a teacher process ended with exit code {code}: what it said stands above. If its device or this "
                "machine ran out of memory, give batch_clips a smaller value; finished shards stay"
            )
        if isinstance(message, str):
            labeller.ready = True
            return
        assert labeller.batch is not None
        for clip, posteriors in zip(labeller.batch, message, strict=True):
            clip.posteriors = posteriors
            self._free.append(clip.place)
        labeller.batch = None

    def _take_decoded(self, decoder: DecodeWorker, message: str | ClipRecord | DecodeResult | None) -> None:
        if message is None:
            decoder.process.join()
            self._replace(decoder, crashed(decoder.process.exitcode))
            return
        assert decoder.job is not None
        if isinstance(message, ClipRecord):
            assert decoder.slot is not None
            decoder.job.clips.append(Clip(message, decoder.slot))
            decoder.slot = None
        elif isinstance(message, DecodeResult):
            decoder.job.summary = message
            decoder.job = None
        else:
            decoder.waits = True

    def _kill_stalled(self) -> None:
        limit = self._machine.stall_seconds
        for decoder in list(self._decoders):
            if decoder.idle_seconds() > limit:
                decoder.process.kill()
                self._replace(decoder, stalled(limit))

    def _replace(self, decoder: DecodeWorker, summary: DecodeResult) -> None:
        """Another worker for one that is gone; the video it was at is rejected whole."""
        decoder.process.join()
        decoder.pipe.close()
        if decoder.slot is not None:
            self._free.append(decoder.slot)
        if decoder.job is not None:
            decoder.job.summary = summary
        self._decoders[self._decoders.index(decoder)] = DecodeWorker.start(self._decoding, self._slots)
