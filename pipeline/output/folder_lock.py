"""Runs at work in one shard folder: each holds a lock under its rank's name, and describes itself in the lock's file.

A lock vanishes with the process that held it, so a killed run stops nobody. Among the processes of a machine locks hold
on every file system that has any; among machines where the file system passes them on: NFS with its lock service,
CephFS, GPFS, Lustre mounted with `flock`. Where it does not, nobody is refused across machines, and one rank has to
plan before the others start; ranks write and clear away nothing but their own part.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from shards.errors import UserError, require_same
from shards.files import locked

log = logging.getLogger("pipeline")
LOCK = ".lock"  # held while a run plans or settles
RANKS = ".ranks"
ELSEWHERE = "shards=another/folder"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Rank:
    """One of `world` runs that share a plan, as the others see it."""

    rank: int = 0
    world: int = 1
    job: str = "teacher-shards"
    where: str = field(default_factory=lambda: f"{socket.gethostname()}, process {os.getpid()}")
    terms: dict[str, Any] = field(default_factory=dict)  # what all must agree on; empty until it has planned

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank counts from 0 to world - 1, not rank={self.rank} world={self.world}")

    def __str__(self) -> str:
        return f"{self.job} rank={self.rank} world={self.world} ({self.where})"

    @property
    def name(self) -> str:
        """Of its lock."""
        return f"{self.job}-{self.rank}-of-{self.world}"

    @property
    def log_name(self) -> str:
        """Of its log file; the job is not in it, so that a relabel's lines follow those of the run."""
        return "pipeline.log" if self.world == 1 else f"pipeline-{self.rank}-of-{self.world}.log"

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every world-th, by position in the whole plan, so that a rank keeps its part from run to run."""
        return items[self.rank :: self.world]


class FolderLease:
    """The right of a rank to write into a folder; use as a context. Raises UserError where another run holds it."""

    def __init__(self, folder: Path, rank: Rank) -> None:
        self.rank = rank
        self._folder = folder
        self._held = ExitStack()
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        (self._folder / RANKS).mkdir(parents=True, exist_ok=True)
        with self.turn():
            for other in self.others():
                if (other.job, other.world) != (self.rank.job, self.rank.world) or other.rank == self.rank.rank:
                    raise UserError(
                        f"another run is writing into {self._folder}: {other}, and this is {self.rank}. Only different "
                        f"ranks of one world work side by side: wait for it, or give {ELSEWHERE}"
                    )
            self._lock = self._held.enter_context(locked(self._folder / RANKS / self.rank.name, instead=ELSEWHERE))
            self._describe()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One run at a time is in here, to plan or to settle; the others wait."""
        with ExitStack() as stack:
            path = self._folder / LOCK
            if stack.enter_context(locked(path, wait=False, instead=ELSEWHERE)) is None:
                log.warning("waiting for another run to plan or settle in %s", self._folder)
                stack.enter_context(locked(path, instead=ELSEWHERE))
            yield

    def others(self) -> list[Rank]:
        """The other runs at work in the folder, by what their locks say. To be asked during a turn."""
        others = []
        for path in sorted((self._folder / RANKS).iterdir()):
            if self._lock is None or path.name != self.rank.name:
                with locked(path, wait=False, instead=ELSEWHERE) as free:
                    if free is None:
                        others.append(Rank(**json.loads(path.read_bytes())))
        return others

    def agree(self, terms: dict[str, Any]) -> bool:
        """Publish what this run plans by; whether ranks at work have planned by it already.

        Raises ContractError where they have planned by something else. To be called during a turn.
        """
        planned = [other for other in self.others() if other.terms]
        for other in planned:
            remedy = f"Ranks at work at one time share one plan: wait for them, or give {ELSEWHERE}."
            require_same(terms, other.terms, str(other), remedy)
        self.rank = replace(self.rank, terms=terms)
        self._describe()
        return bool(planned)

    def _describe(self) -> None:
        """Write what the others are told of this rank into its lock."""
        assert self._lock is not None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps(asdict(self.rank)).encode())
        self._lock.flush()
