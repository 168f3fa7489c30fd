"""A shard's own task: it has its videos decoded and labelled on the cluster, and writes the shard where it runs.

It holds records and posteriors alone. Pictures and members lie in Ray's object store, which spills to disk when full.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray

from pipeline.executor.batches import Batches
from pipeline.executor.cluster.workers import RETRIES, ClusterConfig, decode_video
from pipeline.executor.job import Clip, ClipMembers, ClipRecord, DecodeResult, DecodeTask, VideoJob, Write
from shards.format.sidefile import SideFile

Ref: TypeAlias = "ray.ObjectRef[Any]"


@dataclass
class Objects:
    """Where a clip lies in Ray's object store."""

    pictures: Ref | None  # until it is labelled
    members: Ref


def make_shard(
    tasks: list[DecodeTask], config: ClusterConfig, teachers: list[Any], write: Write
) -> tuple[SideFile, list[tuple[str, DecodeResult]]]:
    """The Ray task; returns the path and the result of each video too.

    Raises what `write` raises, and RayError where the cluster fails more often than is retried.
    """
    os.chdir(config.home)
    results: list[tuple[str, DecodeResult]] = []

    def complete() -> Iterator[VideoJob[Objects]]:
        for job in ShardLabeller(tasks, config, teachers).label():
            assert job.result is not None
            results.append((job.task.path, job.result))
            yield job

    def members(job: VideoJob[Objects]) -> Iterator[ClipMembers]:
        for clip in job.clips:
            yield ray.get(clip.place.members)

    return write(tasks[0].shard, complete(), members), results


class ShardLabeller:
    """Labels the videos of one shard; what decides a byte follows the plan's order, as in the local executor."""

    def __init__(self, tasks: list[DecodeTask], config: ClusterConfig, teachers: list[Any]) -> None:
        self._config = config
        self._upcoming = deque(tasks)
        self._order: deque[VideoJob[Objects]] = deque()  # under way, in the plan's order
        self._batches: Batches[Objects] = Batches(config.batch_clips)
        self._decoding: dict[Any, VideoJob[Objects]] = {}  # videos at a decode task, by its generator
        self._refs: dict[Any, list[Ref]] = {}  # pictures, members and record of its next clip, as they come
        self._labelling: dict[Ref, list[Clip[Objects]]] = {}  # batches at a teacher
        self._waiting = 0  # clips decoded and not labelled
        first = zlib.crc32(tasks[0].shard.encode()) % len(teachers)  # shards begin at different teachers
        self._teachers = itertools.islice(itertools.cycle(teachers), first, None)
        remote: Any = ray.remote(num_cpus=config.ray.cpus_per_decoder, num_returns="streaming", max_retries=RETRIES)
        self._decode = remote(decode_video)

    def label(self) -> Iterator[VideoJob[Objects]]:
        """Yield every video in the order given, labelled or with the reason it is rejected for."""
        while self._upcoming or self._order:
            self._assign()
            self._receive()
            for batch in self._batches.cut(is_whole=not self._upcoming):
                pictures = [clip.place.pictures for clip in batch]
                self._labelling[next(self._teachers).label.remote(*pictures)] = batch
            while self._order and self._order[0].complete:
                yield self._order.popleft()

    def _assign(self) -> None:
        """Begin videos in plan order. One that is begun is never held up, so none can wait for another's CPU.

        Those that failed are tried once more at the shard's end, or before, where too many clips wait for theirs.
        """
        is_full = self._waiting >= self._config.ray.clips
        if not self._decoding and (is_full or not self._upcoming):
            for job in [job for job in self._order if job.failed][: self._config.ray.videos]:
                self._begin(job)
        while self._upcoming and len(self._decoding) < self._config.ray.videos and (not is_full or not self._decoding):
            job = VideoJob(self._upcoming.popleft())
            self._order.append(job)
            self._batches.add(job)
            self._begin(job)

    def _begin(self, job: VideoJob[Objects]) -> None:
        generator = self._decode.remote(job.begin(), self._config)
        self._decoding[generator], self._refs[generator] = job, []

    def _receive(self) -> None:
        under_way = [*self._labelling, *self._decoding]
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
        job, refs = self._decoding[generator], self._refs[generator]
        try:
            ref = next(generator, None)
            if ref is not None:
                refs.append(ref)
            if ref is not None and len(refs) < 3:
                return
            message: ClipRecord | DecodeResult = ray.get(refs[-1])  # raises, where the task has failed
        except ray.exceptions.WorkerCrashedError:
            message = DecodeResult("crashed", f"the Ray worker at it ended {RETRIES + 1} times")
        if isinstance(message, DecodeResult):
            job.end(message)
            del self._decoding[generator], self._refs[generator]
        else:
            pictures, members, _ = refs
            self._waiting += job.add(message, Objects(pictures, members))
            refs.clear()
