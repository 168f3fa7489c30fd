"""The executor on one machine: decode workers feed batched teacher processes through shared-memory slots.

What decides a byte of the result follows the plan's order and not that of arrival: batches are cut in clip order within
a shard, and videos come out in the order they went in. Only the waiting differs with the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from multiprocessing.connection import Connection, wait

from pipeline.executor.batches import Batches
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.decode_worker import CLOSED, DecodeWorker, spool_path, spooled
from pipeline.executor.job import Clip, DecodeResult, DecodeTask, OnVideo, VideoJob, Write, crashed, stalled
from pipeline.executor.slots import Slots
from pipeline.executor.teacher_worker import TeacherConfig, TeacherWorker
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

    def __init__(self, decoding: DecodeConfig, labelling: TeacherConfig, config: LocalConfig) -> None:
        self._decoding, self._config = decoding, config
        self._slots = Slots.create(decoding.crops, decoding.clip.frames, config.slots)
        self._free = deque(range(self._slots.count))
        self._order: deque[VideoJob[int]] = deque()  # under way, in the plan's order
        self._uncut: Batches[int] = Batches(config.batch_clips)
        self._batches: deque[list[Clip[int]]] = deque()  # cut, and waiting for a teacher
        self._teachers = [TeacherWorker.start(labelling, device, self._slots) for device in config.devices]
        self._decoders = [DecodeWorker.start(decoding, self._slots) for _ in range(config.decoders)]

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [worker.process for worker in self._decoders] + [worker.process for worker in self._teachers]:
            process.kill()
            process.join()
        self._slots.close()

    def shards(self, tasks: Iterable[DecodeTask], write: Write, on_video: OnVideo) -> Iterator[SideFile]:
        """Have each shard written as its videos are complete; `on_video` is called for each of them."""
        spool = self._decoding.spool

        def complete(jobs: Iterable[VideoJob[int]]) -> Iterator[VideoJob[int]]:
            for job in jobs:
                assert job.result is not None
                on_video(job.task.path, job.result)
                yield job
                spool_path(spool, job.task).unlink(missing_ok=True)

        for shard, jobs in groupby(self.label(tasks), key=lambda job: job.task.shard):
            yield write(shard, complete(jobs), partial(spooled, spool))

    def label(self, tasks: Iterable[DecodeTask]) -> Iterator[VideoJob[int]]:
        """Yield every video in the order given, labelled or with the reason it is rejected for.

        Raises UserError if a teacher dies or hangs.
        """
        self._tasks = iter(tasks)
        self._upcoming = next(self._tasks, None)
        while self._upcoming is not None or self._order:
            self._grant()
            self._assign()
            self._batches.extend(self._uncut.cut(self._upcoming.shard if self._upcoming else None))
            for teacher in self._teachers:
                if teacher.ready and teacher.batch is None and self._batches:
                    teacher.take(self._batches.popleft())
            self._receive()
            self._replace_stalled()
            while self._order and self._order[0].complete:
                yield self._order.popleft()

    def _assign(self) -> None:
        """Give the free decoders what comes next.

        A video that failed is tried once more at the end of its shard, or before, where nothing more of the shard can
        be decoded until it is. The last free decoder is kept for it.
        """
        idle = [decoder for decoder in self._decoders if decoder.job is None]
        for decoder in idle:
            failed = next((job for job in self._order if job.failed), None)
            upcoming = self._upcoming
            if failed and (upcoming is None or upcoming.shard != failed.task.shard or decoder is idle[-1]):
                if self._is_quiet():
                    decoder.take(failed)
            elif upcoming is not None:
                job: VideoJob[int] = VideoJob(upcoming)
                self._order.append(job)
                self._uncut.add(job)
                decoder.take(job)
                self._upcoming = next(self._tasks, None)

    def _is_quiet(self) -> bool:
        """Whether all decoders are free, or wait for a slot, or are at a second try."""
        at_work = [decoder for decoder in self._decoders if decoder.job is not None and not decoder.waits]
        return all(decoder.job is not None and decoder.job.tries > 1 for decoder in at_work)

    def _grant(self) -> None:
        """Slots go out in plan order, and one batch's worth is kept for the first video that is not decoded yet.

        That video's clips are the next that a batch waits for. Were later videos allowed to take the last slots, they
        would hold them until a batch that cannot be cut. Kept this way, a full batch is there whenever no slot is free.
        """
        first = next((job for job in self._order if job.result is None), None)
        waiting = [(decoder.job.task.number, decoder) for decoder in self._decoders if decoder.waits and decoder.job]
        for _, decoder in sorted(waiting, key=lambda pair: pair[0]):
            reserve = 0 if decoder.job is first else self._config.batch_clips
            if len(self._free) > reserve:
                decoder.grant(self._free.popleft())

    def _receive(self) -> None:
        """Wait for the next messages, and take them in."""
        decoders = {decoder.pipe: decoder for decoder in self._decoders}
        teachers = {teacher.pipe: teacher for teacher in self._teachers}
        for pipe in wait([*decoders, *teachers], timeout=POLL_SECONDS):
            assert isinstance(pipe, Connection)
            if pipe in teachers:
                self._free.extend(teachers[pipe].receive())
                continue
            try:
                self._free.extend(decoders[pipe].receive())
            except CLOSED:
                process = decoders[pipe].process
                process.join()
                self._replace(decoders[pipe], crashed(process.exitcode))

    def _replace_stalled(self) -> None:
        limit = self._config.stall_seconds
        for teacher in self._teachers:
            teacher.require_progress(limit)
        for decoder in list(self._decoders):
            if decoder.idle_seconds() > limit:
                decoder.process.kill()
                decoder.process.join()
                self._replace(decoder, stalled(limit))

    def _replace(self, decoder: DecodeWorker, result: DecodeResult) -> None:
        """Another worker for one that is gone, which costs the video it was at this try."""
        decoder.pipe.close()
        if decoder.slot is not None:
            self._free.append(decoder.slot)
        if decoder.job is not None:
            decoder.job.end(result)
        self._decoders[self._decoders.index(decoder)] = DecodeWorker.start(self._decoding, self._slots)
