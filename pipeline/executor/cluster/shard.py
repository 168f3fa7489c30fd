"""A shard's own task: it has its videos decoded and labelled on the cluster, and writes the shard where it runs.

It holds heads and posteriors alone. Pictures and sound lie in Ray's object store, which spills to disk when it is full.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.executor.batches import Batches
from pipeline.executor.cluster.workers import ClusterConfig, decode_video
from pipeline.executor.job import Clip, ClipRecord, DecodeResult, DecodeTask, Outcome, VideoJob, Write
from shards.format.sidefile import SideFile

Ref: TypeAlias = "ray.ObjectRef[Any]"

RETRIES = 3  # of a video whose Ray worker died, of a batch whose teacher died, of a shard whose task died


@dataclass
class Objects:
    """Where a clip lies on the cluster."""

    pictures: Ref | None  # until it is labelled
    waveform: Ref


@dataclass
class Stream:
    """A video that a decode task is at."""

    job: VideoJob[Objects]
    refs: list[Ref] = field(default_factory=list)  # of pictures, sound and head, as far as they are there


def make_shard(
    tasks: list[DecodeTask], work: ClusterConfig, teachers: list[Any], write: Write
) -> tuple[SideFile, list[Outcome]]:
    """The Ray task. Raises what `write` raises, and RayError where the cluster fails more often than is retried."""
    os.chdir(work.home)
    outcomes: list[Outcome] = []

    def told(jobs: Iterable[VideoJob[Objects]]) -> Iterator[VideoJob[Objects]]:
        for job in jobs:
            outcomes.append(job.outcome)
            yield job

    side = write(tasks[0].shard, told(Shard(tasks, work, teachers).label()), waveforms)
    return side, outcomes


def waveforms(job: VideoJob[Objects]) -> Iterator[NDArray[np.int16]]:
    for clip in job.clips:
        yield ray.get(clip.place.waveform)


class Shard:
    """Labels the videos of one shard; what decides a byte follows the plan's order, as in the local executor."""

    def __init__(self, tasks: list[DecodeTask], work: ClusterConfig, teachers: list[Any]) -> None:
        self._work = work
        self._upcoming = deque(tasks)
        self._order: deque[VideoJob[Objects]] = deque()  # under way, in the plan's order
        self._batches: Batches[Objects] = Batches(work.batch_clips)
        self._streams: dict[Any, Stream] = {}  # by their generators
        self._labelling: dict[Ref, list[Clip[Objects]]] = {}  # batches at a teacher
        self._waiting = 0  # clips decoded and not labelled
        first = zlib.crc32(tasks[0].shard.encode()) % len(teachers)  # shards begin at different teachers
        self._teachers = itertools.islice(itertools.cycle(teachers), first, None)
        remote: Any = ray.remote(num_cpus=work.cpus_per_decoder, num_returns="streaming", max_retries=RETRIES)
        self._decode = remote(decode_video)

    def label(self) -> Iterator[VideoJob[Objects]]:
        """Yield every video in the order given, labelled or with the reason it is rejected for."""
        while self._upcoming or self._order:
            self._begin()
            self._receive()
            for batch in self._batches.cut(self._upcoming[0].shard if self._upcoming else None):
                self._send(batch)
            while self._order and self._order[0].complete:
                yield self._order.popleft()

    def _begin(self) -> None:
        """Begin videos in plan order. One that is begun is never held up, so none can wait for another's CPU."""
        while (
            self._upcoming
            and len(self._streams) < self._work.videos
            and (self._waiting < self._work.clips or not self._streams)
        ):
            job: VideoJob[Objects] = VideoJob(self._upcoming.popleft())
            self._order.append(job)
            self._batches.add(job)
            self._streams[self._decode.remote(job.task, self._work)] = Stream(job)

    def _receive(self) -> None:
        under_way = [*self._labelling, *self._streams]
        if not under_way:
            return
        (ready,), _ = ray.wait(under_way, num_returns=1, fetch_local=False)
        if ready in self._labelling:
            self._take_posteriors(ready)
        else:
            self._take_decoded(ready)

    def _take_posteriors(self, ready: Ref) -> None:
        posteriors = ray.get(ready)
        for clip, labels in zip(self._labelling.pop(ready), posteriors, strict=True):
            clip.posteriors = labels
            clip.place.pictures = None  # whereupon Ray may forget them
            self._waiting -= 1

    def _take_decoded(self, generator: Any) -> None:
        stream = self._streams[generator]
        try:
            ref = next(generator, None)
            if ref is not None:
                stream.refs.append(ref)
            if ref is not None and len(stream.refs) < 3:
                return
            message: ClipRecord | DecodeResult = ray.get(stream.refs[-1])  # raises, where the task has failed
        except ray.exceptions.WorkerCrashedError:
            message = DecodeResult("crashed", f"the Ray worker at it ended {RETRIES + 1} times")
        if isinstance(message, DecodeResult):
            stream.job.summary = message
            del self._streams[generator]
        else:
            pictures, waveform, _ = stream.refs
            stream.job.clips.append(Clip(message, Objects(pictures, waveform)))
            stream.refs = []
            self._waiting += 1

    def _send(self, batch: list[Clip[Objects]]) -> None:
        windows = [clip.head.windows for clip in batch]
        pictures = [clip.place.pictures for clip in batch]
        self._labelling[next(self._teachers).label.remote(windows, *pictures)] = batch
