"""The executor on one machine: decode workers, teacher processes and shard processes, with a spool between them.

What decides a byte of the result follows the plan's order and not that of arrival: batches are cut in clip order within
a shard, and videos come out in the order they went in. Only the waiting differs with the number of workers.

A clip's pictures and its members of the shard lie in the spool's files. So nothing here is done per byte, and decoders
go on while the videos behind a long one wait for it: no teacher's batch and no shard can be closed until it is decoded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from typing import TypeVar

from pipeline.executor.batches import Batches
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.decode_worker import CLOSED, DecodeWorker, Place
from pipeline.executor.job import Clip, DecodeResult, DecodeTask, OnVideo, VideoJob, Write, crashed, stalled
from pipeline.executor.shard_worker import OpenShard, ShardWorker
from pipeline.executor.teacher_worker import TeacherConfig, TeacherWorker
from shards.format.sidefile import SideFile

Worker = TypeVar("Worker", DecodeWorker, TeacherWorker, ShardWorker)

POLL_SECONDS = 0.5
BATCHES_AHEAD = 16  # that wait for each teacher, from which on decoders are held


@dataclass(frozen=True)
class LocalConfig:
    """How much of the machine is used; none of it changes a result, but for the kind of device and `batch_clips`."""

    devices: list[str]  # one entry a teacher process
    decoders: int
    writers: int  # shard processes
    batch_clips: int
    spool_bytes: float  # of clips that are in no shard yet, from which on decoders are held
    stall_seconds: float


class LocalExecutor:
    """Labels videos. Use as a context; `label` yields each video when it is complete, `shards` each shard."""

    def __init__(self, decoding: DecodeConfig, labelling: TeacherConfig, config: LocalConfig) -> None:
        self._decoding, self._config = decoding, config
        self._order: deque[VideoJob[Place]] = deque()  # under way, in the plan's order
        self._failed: list[VideoJob[Place]] = []  # those that wait for their second try
        self._uncut: dict[str, Batches[Place]] = {}  # by shard
        self._batches: deque[list[Clip[Place]]] = deque()  # cut, and waiting for a teacher
        self._shards: deque[OpenShard] = deque()  # that wait for a shard process, or for videos
        self._finished: list[SideFile] = []
        self._spooled = 0  # bytes
        self._looked = time.monotonic()  # for decoders that stand still
        self._selector = DefaultSelector()
        self._writers = [self._started(ShardWorker.start(decoding.spool)) for _ in range(config.writers)]
        self._teachers = [
            self._started(TeacherWorker.start(labelling, device, decoding.spool)) for device in config.devices
        ]
        self._decoders = [self._started(DecodeWorker.start(decoding)) for _ in range(config.decoders)]

    def _started(self, worker: Worker) -> Worker:
        self._selector.register(worker.pipe, EVENT_READ, worker)
        return worker

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [worker.process for worker in self._decoders] + [worker.process for worker in self._teachers]:
            process.kill()
            process.join()
        for writer in self._writers:
            writer.close()
        self._selector.close()

    def shards(self, tasks: Iterable[DecodeTask], write: Write, on_video: OnVideo) -> Iterator[SideFile]:
        """Have each shard written as its videos are complete; `on_video` is called for each of them.

        Raises UserError where a shard cannot be written, and what `label` raises.
        """
        shard: OpenShard | None = None
        for job in self.label(tasks):
            assert job.result is not None
            on_video(job.task.path, job.result)
            if shard is None or shard.is_whole:
                shard = OpenShard(job.task.shard, write)
                self._shards.append(shard)
            shard.jobs.append(job)
            follows = self._order[0].task if self._order else self._upcoming
            shard.is_whole = follows is None or follows.shard != shard.name
            yield from self._take_finished()
        while self._shards or any(writer.shard for writer in self._writers):
            self._feed_writers()
            self._receive()
            yield from self._take_finished()

    def _take_finished(self) -> list[SideFile]:
        finished, self._finished = self._finished, []
        return finished

    def label(self, tasks: Iterable[DecodeTask]) -> Iterator[VideoJob[Place]]:
        """Yield every video in the order given, labelled or with the reason it is rejected for; members in the spool.

        Raises UserError if a teacher dies or hangs.
        """
        self._tasks = iter(tasks)
        self._upcoming = next(self._tasks, None)
        while self._upcoming is not None or self._order:
            self._assign()
            self._cut()
            for teacher in self._teachers:
                if teacher.ready and teacher.batch is None and self._batches:
                    teacher.take(self._batches.popleft())
            self._feed_writers()
            self._hold()
            self._receive()
            while self._order and self._order[0].complete:
                yield self._order.popleft()

    def _assign(self) -> None:
        """Give the free decoders what comes next.

        A video that failed is tried once more at the end of its shard, or before, where nothing more of the shard can
        be decoded until it is. The last free decoder is kept for it.
        """
        idle = [decoder for decoder in self._decoders if decoder.job is None]
        for decoder in idle:
            failed = min(self._failed, key=lambda job: job.task.number, default=None)
            upcoming = self._upcoming
            if failed and (upcoming is None or upcoming.shard != failed.task.shard or decoder is idle[-1]):
                if self._is_quiet():
                    self._failed.remove(failed)
                    decoder.take(failed)
            elif upcoming is not None:
                job: VideoJob[Place] = VideoJob(upcoming)
                self._order.append(job)
                self._uncut.setdefault(upcoming.shard, Batches(self._config.batch_clips)).add(job)
                decoder.take(job)
                self._upcoming = next(self._tasks, None)

    def _is_quiet(self) -> bool:
        """Whether all decoders are free, or held, or at a second try."""
        at_work = [decoder for decoder in self._decoders if decoder.job is not None and not decoder.held.value]
        return all(decoder.job is not None and decoder.job.tries > 1 for decoder in at_work)

    def _cut(self) -> None:
        for shard, uncut in list(self._uncut.items()):
            is_whole = self._upcoming is None or self._upcoming.shard != shard
            self._batches.extend(uncut.cut(is_whole=is_whole))
            if is_whole and uncut.is_empty:
                del self._uncut[shard]

    def _feed_writers(self) -> None:
        """Hand shards and complete videos to the shard processes that wait for them."""
        for writer in self._writers:
            if writer.shard is None and self._shards:
                writer.take(self._shards.popleft())
            for job in writer.feed():
                self._spooled -= sum(self._decoding.spooled_bytes(clip.record) for clip in job.clips)

    def _hold(self) -> None:
        """Hold the decoders where the teachers are far behind, or the spool is full.

        A full spool holds all where somebody is about to take clips out of it; else the others wait for the first video
        that is not decoded yet, and that one goes on.
        """
        behind = len(self._batches) > BATCHES_AHEAD * len(self._teachers)
        full = self._spooled > self._config.spool_bytes
        first = None
        if full and not self._is_draining():
            first = next((job for job in self._order if job.result is None), None)
        for decoder in self._decoders:
            decoder.held.value = behind or (full and (first is None or decoder.job is not first))

    def _is_draining(self) -> bool:
        at_work = any(teacher.batch for teacher in self._teachers) or any(writer.is_busy for writer in self._writers)
        return at_work or bool(self._batches) or any(shard.jobs for shard in self._shards)

    def _receive(self) -> None:
        """Wait for the next messages, and take them in."""
        for key, _ in self._selector.select(POLL_SECONDS):
            worker: DecodeWorker | TeacherWorker | ShardWorker = key.data
            if isinstance(worker, DecodeWorker):
                self._receive_decoded(worker)
            elif isinstance(worker, TeacherWorker):
                worker.receive()
            elif side := worker.receive():
                self._finished.append(side)
        if time.monotonic() - self._looked >= min(POLL_SECONDS, self._config.stall_seconds):
            self._looked = time.monotonic()
            self._replace_stalled()

    def _receive_decoded(self, decoder: DecodeWorker) -> None:
        job = decoder.job
        try:
            self._spooled += decoder.receive()
        except CLOSED:
            decoder.process.join()
            self._replace(decoder, crashed(decoder.process.exitcode))
        else:
            self._note(job)

    def _note(self, job: VideoJob[Place] | None) -> None:
        """Enter a video whose first try has just failed."""
        if job is not None and job.failed:
            self._failed.append(job)

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
        self._selector.unregister(decoder.pipe)
        decoder.pipe.close()
        if decoder.job is not None:
            decoder.job.end(result)
            self._note(decoder.job)
        self._decoders[self._decoders.index(decoder)] = self._started(DecodeWorker.start(self._decoding))
