"""A shard process: it writes shards out of the spool, so that encoding, hashing, flushing and sending hold up nobody.

    executor         pipe           worker
    (shard, Write)   -->
                     <--  "next"    what came before is in the shard, and gone from the spool
    VideoJobs        -->            those that are complete by now; none behind the last
                     <--  SideFile  or the UserError that ends the run

It imports no torch.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from pipeline.executor.decode_worker import CLOSED, Place, end_with_parent, members_path, spawn, spooled
from pipeline.executor.job import VideoJob, Write
from shards.cli.preemption import Preempted, preemptible
from shards.errors import UserError
from shards.format.sidefile import SideFile

CLOSING_SECONDS = 10.0  # a process gets to remove what it has half done


@dataclass
class OpenShard:
    """A shard under way, and those of its videos that are complete and not written yet."""

    name: str
    write: Write
    jobs: list[VideoJob[Place]] = field(default_factory=list)
    is_whole: bool = False  # no more videos follow


@dataclass
class ShardWorker:
    """The executor's end: a shard process and the shard it is at."""

    process: SpawnProcess
    pipe: Connection
    shard: OpenShard | None = None
    waits: bool = False  # for the next video

    @classmethod
    def start(cls, spool: Path) -> ShardWorker:
        return cls(*spawn(run_shard_worker, spool))

    @property
    def is_busy(self) -> bool:
        """Whether it has, or can be given, something to write."""
        return self.shard is not None and (not self.waits or bool(self.shard.jobs) or self.shard.is_whole)

    def take(self, shard: OpenShard) -> None:
        self.shard = shard
        self._send((shard.name, shard.write))

    def feed(self) -> list[VideoJob[Place]]:
        """Hand over the videos that are there, where they are waited for. Returns them."""
        if self.shard is None or not self.waits or not (self.shard.jobs or self.shard.is_whole):
            return []
        jobs, self.shard.jobs, self.waits = self.shard.jobs, [], False
        self._send(jobs)
        return jobs

    def receive(self) -> SideFile | None:
        """Wait for a message. Returns the side file of a shard that is finished. Raises UserError."""
        try:
            message: str | SideFile | UserError = self.pipe.recv()
        except CLOSED:
            self.process.join()
            raise UserError(
                f"a process that writes shards ended with exit code {self.process.exitcode}: what it said stands "
                "above. Finished shards stay; the same command goes on"
            ) from None
        if isinstance(message, UserError):
            raise message
        if isinstance(message, SideFile):
            self.shard = None
            return message
        self.waits = True
        return None

    def close(self) -> None:
        """End the process; it removes the shard that it has not finished."""
        self.process.terminate()
        self.process.join(CLOSING_SECONDS)
        self.process.kill()
        self.process.join()

    def _send(self, message: object) -> None:
        with contextlib.suppress(*CLOSED):  # of a dead process, `receive` will tell
            self.pipe.send(message)


def run_shard_worker(pipe: Connection, spool: Path) -> None:
    """The worker's end, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    end_with_parent()

    def jobs() -> Iterator[VideoJob[Place]]:
        pipe.send("next")
        while some := pipe.recv():
            for job in some:
                yield job
                members_path(spool, job.task).unlink(missing_ok=True)
            pipe.send("next")

    def written(shard: str, write: Write) -> SideFile | UserError:
        try:
            return write(shard, jobs(), partial(spooled, spool))
        except UserError as error:
            return error

    # Ended by SIGTERM, it removes what is half done; or the executor is gone.
    with contextlib.suppress(Preempted, *CLOSED), preemptible():
        while True:
            pipe.send(written(*pipe.recv()))
