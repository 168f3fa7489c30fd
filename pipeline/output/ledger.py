"""The ledger of a run: who it is, the shards it has finished, and a sign of life now and then; for `make status`.

Each run appends to a file of its own, `.runs/<rank>.<token>.jsonl`, so that nobody waits for another, or reads ten
thousand side files to see how far a folder is. Side files stay the truth: what no row tells is read from them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from pipeline.output.destination import Output
from pipeline.output.folder_lock import Rank
from shards.errors import UserError
from shards.format.sidefile import SideFile

RUNS = ".runs"
BEAT_SECONDS = 60  # between signs of life, where videos are done as often; at a URL, between copies of the ledger
log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class ShardRow:
    """A finished shard, in short."""

    shard: str
    clips: int
    samples: int
    rejects: dict[str, str]  # video key -> reason

    @classmethod
    def of(cls, side: SideFile) -> ShardRow:
        rejects = {reject.key: reject.reason for reject in side.rejects}
        return cls(side.shard, len(side.keys), sum(side.samples), rejects)


class Ledger:
    """What a run writes. A row that cannot be written is not missed; the run itself says what ails the disk."""

    def __init__(self, output: Output, rank: Rank, *, videos: int) -> None:
        self._output, self._name = output, f"{RUNS}/{rank.name}.{token_hex(4)}.jsonl"
        self._written = self._sent = 0.0
        who = {"job": rank.job, "rank": rank.rank, "world": rank.world, "host": socket.gethostname()}
        self._write(who | {"process": os.getpid(), "videos": videos})

    def video_done(self, done: int) -> None:
        """`done`: videos that this run has read so far, as below."""
        if time.monotonic() - self._written > BEAT_SECONDS:
            self._write({"done": done})

    def shard_done(self, side: SideFile, done: int) -> None:
        self._write({"done": done} | vars(ShardRow.of(side)))

    def end(self, done: int, *, is_whole: bool) -> None:
        self._sent = 0.0
        self._write({"done": done, "end": "ended" if is_whole else "stopped"})

    def _write(self, row: dict[str, Any]) -> None:
        now = self._written = time.monotonic()
        path = self._output.folder / self._name
        try:
            path.parent.mkdir(exist_ok=True)
            with open(path, "a") as stream:
                stream.write(json.dumps({"at": round(time.time(), 3)} | row) + "\n")
            if now - self._sent > BEAT_SECONDS:
                self._sent = now
                self._output.push(self._name)
        except (OSError, UserError) as error:
            log.debug("%s is not written: %s", self._name, error)


@dataclass
class RunRecord:
    """What a ledger tells of its run."""

    job: str
    rank: int
    world: int
    host: str
    process: int
    videos: int  # that it set out to read
    began: float  # seconds since 1970, by its own clock, as all times here
    last_sign: float
    done: int = 0
    end: str = ""  # `ended`, or `stopped` by an error or a signal; empty for one that is at work, or was killed
    shards: list[ShardRow] = field(default_factory=list)

    @classmethod
    def read(cls, lines: Iterable[bytes]) -> RunRecord | None:
        """None where there is no whole first row yet; a row that is torn, or none of ours, counts for nothing."""
        run: RunRecord | None = None
        for line in lines:
            try:
                row = json.loads(line)
                at = float(row.pop("at"))
                if run is None:
                    run = cls(**row, began=at, last_sign=at)
                    continue
                done, end = int(row.pop("done")), str(row.pop("end", ""))
                run.shards += [ShardRow(**row)] if row else []
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            run.done, run.end, run.last_sign = done, end, at
        return run

    @property
    def videos_per_second(self) -> float:
        return self.done / max(self.last_sign - self.began, 1e-3)
