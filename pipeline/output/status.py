"""`make status`: how far a folder of shards is, over all ranks and machines, while they run. It only reads; no locks.

A shard is finished where its side file is, beside its tar. Who made it, and when, is in the ledgers of the runs.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from pipeline.output.destination import finished_of
from pipeline.output.ledger import RUNS, RunRecord, ShardRow
from pipeline.videos.plan import NAME as PLAN
from shards.cli.command import command
from shards.cli.commands import as_called
from shards.cli.words import amount
from shards.errors import UserError
from shards.format.manifest import NAME as MANIFEST
from shards.storage import address, is_remote, names_in, open_place, reaching, side_by_side

RETRY = b'"retry": true}\n'  # the end of a plan's row that takes up rejects
SILENT_SECONDS = 600  # from here on a run that has not ended is not counted as being at work


@dataclass
class StatusSettings:
    """Settings of `make status`."""

    # a folder of shards, finished or not; a path or any fsspec URL
    shards: str = field(metadata={"example": "outputs/shards/mine"})
    json: bool = False  # true: one line of JSON, for another program


@dataclass
class RankStatus:
    """A rank on a machine: its latest run there, and the shards of all its runs there."""

    name: str
    host: str
    process: int
    state: str  # at work, silent, killed, stopped, ended; replaced: a later run elsewhere has its place
    shards: int
    done: int  # videos, by the latest run, of as many as follow
    videos: int
    videos_per_second: float
    silent_seconds: float  # since its last sign of life
    seconds_left: float | None  # of one at work
    unwritten: int  # videos of the latest run whose shards are not finished


@dataclass
class Status:
    """inputs = accepted + rejected + duplicates + left."""

    location: str
    planned_shards: int = 0
    finished_shards: int = 0
    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    left: int = 0
    retried: int = 0  # rejects that unfinished shards take up once more; they are not `left`
    clips: int = 0
    hours: float | None = None  # of sound; None without a manifest
    reasons: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)  # shards labelled by each further teacher set
    unreadable: list[str] = field(default_factory=list)  # side files
    ranks: list[RankStatus] = field(default_factory=list)

    def __str__(self) -> str:
        hours = "" if self.hours is None else f", {self.hours:.2f} h of sound"
        count = f"{amount(self.inputs, 'input')} = {self.accepted} accepted + {self.rejected} rejected"
        count += f" + {amount(self.duplicates, 'duplicate')} + {self.left} left; {amount(self.clips, 'clip')}{hours}"
        lines = [f"{self.location}: {self.finished_shards} of {amount(self.planned_shards, 'shard')} finished", count]
        if not self.planned_shards:
            lines[1:] = ["nothing is planned there yet"]
        if self.reasons:
            lines.append("rejected: " + ", ".join(f"{count} {reason}" for reason, count in self.reasons.items()))
        if self.retried:
            lines.append(f"to be tried once more: {amount(self.retried, 'reject')}")
        lines += [f"labels of {name}: {amount(count, 'shard')}" for name, count in self.labels.items()]
        lines += [f"{name} cannot be read: `make check-shards` says more" for name in self.unreadable]
        return "\n".join(lines + list(map(_line, self.ranks)) + self._outlook())

    def _outlook(self) -> list[str]:
        """Of the runs that are at work, and of what none of them has set out to do."""
        at_work = [rank for rank in self.ranks if rank.state == "at work"]
        waiting = self.left + self.retried - sum(rank.unwritten for rank in at_work)
        lines = []
        if at_work and (speed := sum(rank.videos_per_second for rank in at_work)):
            last = max(rank.seconds_left or 0 for rank in at_work)
            lines.append(f"{len(at_work)} at work, {speed:.2f} videos a second; the last ends in {_span(last)}")
        if self.planned_shards > self.finished_shards and not any(rank.name.startswith("relabel") for rank in at_work):
            lines += [f"nobody is at {amount(waiting, 'video')}: run their ranks again"] if waiting > 0 else []
        return lines


def _line(rank: RankStatus) -> str:
    text = f"{rank.state:<9} {rank.name} on {rank.host}, process {rank.process}: {amount(rank.shards, 'shard')}; "
    text += f"of its latest {amount(rank.videos, 'video')} {rank.done}, {rank.videos_per_second:.2f} a second"
    text += f", {_span(rank.seconds_left)} left" if rank.seconds_left is not None else ""
    return f"{text}; last sign {_span(rank.silent_seconds)} ago"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def status_of(location: str) -> Status:
    """Count a folder or URL. Raises UserError where there is none, or it cannot be reached."""
    location = location if is_remote(location) else os.path.expanduser(location)
    status = Status(location)
    with reaching(location):
        names = names_in(location)
        if not names:
            raise UserError(
                f"{location} holds no shards and no plan of any: give the shards=... of a run that has begun"
            )
        finished = {name.removesuffix(".json") for name in finished_of(names)}
        runs = sorted(_runs(location), key=lambda run: run.last_sign)
        rows = {row.shard: row for run in runs if run.job != "relabel" for row in run.shards}
        unknown = sorted(finished - rows.keys())
        for shard, row in zip(unknown, side_by_side(lambda shard: _row(location, shard), unknown), strict=True):
            if row is None:
                status.unreadable.append(f"{shard}.json")
            else:
                rows[shard] = row
        counted = {shard: rows[shard] for shard in finished & rows.keys()}
        videos = _count(status, location, counted) if PLAN in names else {}
        status.ranks = _ranks(runs, finished, videos)
        status.clips = sum(row.clips for row in counted.values())
        if MANIFEST in names:
            with open_place(address(location, MANIFEST)) as stream:
                rate = json.load(stream)["clip"]["sample_rate"]
            status.hours = sum(row.samples for row in counted.values()) / rate / 3600
        for name in sorted(names_in(address(location, "teachers"))):
            status.labels[name] = len(finished_of(names_in(address(location, f"teachers/{name}"))))
    return status


def _count(status: Status, location: str, rows: dict[str, ShardRow]) -> dict[str, int]:
    """Go through the plan, and what became of it. Returns the number of videos of each shard.

    A row torn by a kill counts for nothing, as when it is read.
    """
    planned: dict[str, int] = {}
    rejects: dict[str, str] = {}  # by video key, of finished shards
    taken = 0  # videos of finished shards, retries apart
    with open_place(address(location, PLAN)) as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            if line.startswith(b'{"duplicates"'):
                status.duplicates += len(json.loads(line)["duplicates"])
            elif line.startswith(b'{"shard"'):
                shard, videos, is_retry = line.split(b'"', 4)[3].decode(), _videos_in(line), line.endswith(RETRY)
                row, planned[shard] = rows.get(shard), videos
                status.planned_shards += 1
                status.finished_shards += row is not None
                status.inputs += 0 if is_retry else videos
                if is_retry and row is None:
                    status.retried += videos
                elif is_retry:
                    for video in json.loads(line)["videos"]:
                        rejects.pop(video["key"], None)
                elif row is not None:
                    taken += videos
                rejects |= row.rejects if row is not None else {}
    status.rejected, status.accepted, status.left = len(rejects), taken - len(rejects), status.inputs - taken
    status.inputs += status.duplicates
    status.reasons = dict(Counter(rejects.values()).most_common())
    return planned


def _videos_in(line: bytes) -> int:
    """Of a plan's row, uncounted by a JSON parser, which takes ten times as long for two million videos.

    Each has `"bytes": <number>`; what a list gave is text, and quotes within a text are escaped.
    """
    return line.count(b'"bytes": ') - line.count(b'"bytes": "')


def _row(location: str, shard: str) -> ShardRow | None:
    """What a side file says of its shard; None where it is none, or is gone by now."""
    try:
        with open_place(address(location, f"{shard}.json")) as stream:
            side = json.load(stream)
        rejects = {reject["key"]: reject["reason"] for reject in side["rejects"]}
        return ShardRow(shard, len(side["keys"]), sum(side["samples"]), rejects)
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return None


def _runs(location: str) -> list[RunRecord]:
    def read(name: str) -> RunRecord | None:
        with open_place(address(location, f"{RUNS}/{name}")) as stream:
            return RunRecord.read(stream.read().splitlines())

    names = sorted(name for name in names_in(address(location, RUNS)) if name.endswith(".jsonl"))
    return [run for run in side_by_side(read, names) if run is not None]


def _ranks(runs: list[RunRecord], finished: set[str], videos: dict[str, int]) -> list[RankStatus]:
    """One entry for each rank on each machine it ran on; `runs` in the order of their last signs."""
    latest = {(run.job, run.rank, run.world, run.host): run for run in runs}
    newest = {(run.job, run.rank, run.world): run.began for run in sorted(runs, key=lambda run: run.began)}
    made: dict[tuple[str, int, int, str], set[str]] = {key: set() for key in latest}
    for run in runs:
        made[run.job, run.rank, run.world, run.host] |= {row.shard for row in run.shards}
    found = []
    for key, run in sorted(latest.items()):
        silent, state = max(time.time() - run.last_sign, 0.0), _state(run)
        if state != "at work" and newest[key[:3]] > run.began:
            state = "replaced"
        speed = run.videos_per_second
        left = (run.videos - run.done) / speed if state == "at work" and speed else None
        name, shards = f"{run.job} rank={run.rank} world={run.world}", len(made[key] & finished)
        unwritten = run.videos - sum(videos.get(row.shard, 0) for row in run.shards)
        counts = (shards, run.done, run.videos, speed, silent, left, unwritten)
        found.append(RankStatus(name, run.host, run.process, state, *counts))
    return found


def _state(run: RunRecord) -> str:
    if run.end:
        return run.end
    if run.host == socket.gethostname():
        try:
            os.kill(run.process, 0)  # which sends nothing
        except ProcessLookupError:
            return "killed"
        except PermissionError:
            pass  # it is there
    return "silent" if time.time() - run.last_sign > SILENT_SECONDS else "at work"


def run(settings: StatusSettings) -> None:
    status = status_of(settings.shards)
    print(json.dumps(asdict(status)) if settings.json else as_called(str(status)))


if __name__ == "__main__":
    command(StatusSettings, "status", run)
