"""Where one teacher batch ends and the next begins; it decides bytes, since the order of a sum depends on its batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic

from pipeline.executor.job import Clip, Place, VideoJob


class Batches(Generic[Place]):
    """Cuts the clips of one shard's videos, added in plan order, into batches of `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: deque[VideoJob[Place]] = deque()  # those that may still give clips to a batch
        self._batch: list[Clip[Place]] = []  # being filled

    def add(self, job: VideoJob[Place]) -> None:
        self._jobs.append(job)

    def cut(self, *, is_whole: bool) -> Iterator[list[Clip[Place]]]:
        """The batches that are full by now, and the last, where all videos have been added (`is_whole`) and decoded."""
        while self._jobs:
            job = self._jobs[0]
            for clip in job.clips[job.batched :]:
                self._batch.append(clip)
                if len(self._batch) == self._size:
                    yield from self._close()
            job.batched = len(job.clips)
            if job.result is None:
                return
            self._jobs.popleft()
        if is_whole:
            yield from self._close()

    def _close(self) -> Iterator[list[Clip[Place]]]:
        if self._batch:
            yield self._batch
        self._batch = []

    @property
    def is_empty(self) -> bool:
        """Whether every clip of the videos added so far has been cut."""
        return not self._jobs and not self._batch
