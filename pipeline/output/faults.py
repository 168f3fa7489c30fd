"""A machine at fault is known by videos that fail on it in a row: the run stops before a shard blames them for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.executor.job import VideoJob
from shards.errors import UserError
from shards.media.rejects import TRANSIENT

IN_A_ROW = 8


@dataclass
class FaultLimit:
    """The rule: IN_A_ROW videos of a shard, one after the other in the plan, that failed twice for TRANSIENT reasons.

    Where this run has read no video yet, all of a shard's are enough. A shard that takes up rejects once more is
    written whatever becomes of them: they are rejected already, and can be taken up again.
    """

    retries: frozenset[str] = frozenset()  # names of such shards
    is_off: bool = False
    has_read: bool = False  # a video, in this run

    def watched(self, shard: str, jobs: Iterable[VideoJob[Any]]) -> Iterator[VideoJob[Any]]:
        """The complete videos of a shard, as they come. Raises UserError after the last, or in the place of one."""
        row = inputs = 0
        for job in jobs:
            assert job.result is not None
            inputs += 1
            row = row + 1 if job.result.reason in TRANSIENT else 0
            if row == IN_A_ROW:
                self._stop(shard, row, job)
            yield job
        if row == inputs and not self.has_read:
            self._stop(shard, row, job)

    def _stop(self, shard: str, row: int, job: VideoJob[Any]) -> None:
        if self.is_off or shard in self.retries:
            return
        assert job.result is not None
        raise UserError(
            f"{row} {'videos' if row > 1 else 'video'} of {shard} in a row failed twice, at last {job.task.path!r}: "
            f"{job.result.reason}: {job.result.detail}. This seems to be the machine's fault, or the network's, so the "
            "shard is not written: mend it (memory_gigabytes=..., ulimit -n, disk, network) and run the same command "
            "again, finished shards stay. If the videos are to blame: max_reject_share=1"
        )
