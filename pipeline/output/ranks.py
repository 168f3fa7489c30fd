"""Runs at work in one shard folder: each holds a lock under its rank's name, with what it says of itself in the file.

The locks are the kernel's (flock) and vanish with the process that held them, so a killed run stops nobody. Among the
processes of a machine they hold on every file system that has any; among machines where the file system passes them on:
NFS with its lock service, CephFS, GPFS, Lustre mounted with `flock`. Where it does not, nobody is refused across
machines, and one rank has to plan before the others start; ranks write and clear away nothing but their own part.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Self, TypeVar

from shards.errors import UserError, require_same

log = logging.getLogger("pipeline")
LOCK = ".lock"  # held while a run plans or settles
RANKS = ".ranks"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Rank:
    """One of `world` runs that share a plan, and what it tells the others of itself."""

    rank: int = 0
    world: int = 1
    job: str = "teacher-shards"
    where: str = field(default_factory=lambda: f"{socket.gethostname()}, process {os.getpid()}")
    plan: dict[str, Any] = field(default_factory=dict)  # what all must agree on; empty until it has planned

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank counts from 0 to world - 1, not rank={self.rank} world={self.world}")

    def __str__(self) -> str:
        return f"{self.job} rank={self.rank} world={self.world} ({self.where})"

    @property
    def name(self) -> str:
        """Of its lock, its spool and, with others beside it, its log."""
        return f"{self.job}-{self.rank}-of-{self.world}"

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every world-th, by position in the whole plan, so that a rank keeps its part from run to run."""
        return items[self.rank :: self.world]


class FolderLease:
    """A rank's place in a folder; use as a context. Raises UserError where a run at work is no fellow rank."""

    def __init__(self, folder: Path, rank: Rank) -> None:
        self.rank = rank
        self._folder = folder
        self._lock: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        (self._folder / RANKS).mkdir(parents=True, exist_ok=True)
        with self.turn():
            for other in self.others():
                if (other.job, other.world) != (self.rank.job, self.rank.world) or other.rank == self.rank.rank:
                    raise UserError(
                        f"another run is writing into {self._folder}: {other}, and this is {self.rank}. Only different "
                        "ranks of one world work side by side: wait for it, or give shards=another/folder"
                    )
            self._lock = open(self._folder / RANKS / self.rank.name, "a")
            _locked(self._lock, wait=True)
            self._say(self._lock)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._lock is not None
        self._lock.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One run at a time is in here, to plan or to settle; the others wait."""
        with open(self._folder / LOCK, "a") as stream:
            if not _locked(stream):
                log.warning("waiting for another run to plan or settle in %s", self._folder)
                _locked(stream, wait=True)
            yield

    def others(self) -> list[Rank]:
        """The other runs at work in the folder. To be asked during a turn."""
        paths = sorted((self._folder / RANKS).iterdir())
        others = [path for path in paths if self._lock is None or path.name != self.rank.name]
        return [Rank(**json.loads(text)) for text in map(_said, others) if text is not None]

    def agree(self, plan: dict[str, Any]) -> bool:
        """Say what this run plans by; whether ranks at work have planned by it already. Raises UserError."""
        planned = [other for other in self.others() if other.plan]
        for other in planned:
            remedy = "Ranks at work at one time share one plan: wait for them, or give shards=another/folder."
            require_same(plan, other.plan, str(other), remedy)
        self.rank = replace(self.rank, plan=plan)
        assert self._lock is not None
        self._say(self._lock)
        return bool(planned)

    def _say(self, lock: TextIOWrapper) -> None:
        lock.truncate(0)
        lock.write(json.dumps(asdict(self.rank)))
        lock.flush()


def _locked(stream: TextIOWrapper, *, wait: bool = False) -> bool:
    """Whether the lock is ours now. Raises UserError where the file system has none."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{stream.name}: this file system has no locks ({error.strerror}), and without them runs would not see "
            "each other: mount it with them (Lustre: flock), or give shards=another/folder"
        ) from None
    return True


def _said(path: Path) -> str | None:
    """What the run that holds a lock says of itself; None where no run holds it."""
    with open(path, "r+") as stream:  # NFS locks only what is open for writing
        return None if _locked(stream) else stream.read()
