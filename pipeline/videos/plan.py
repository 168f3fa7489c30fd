"""The plan, `plan.jsonl`: which videos make which shard, and which inputs repeat another. Append-only.

An unfinished plan is finished before anything else is made; videos that come later become new shards. A row stays in
the file until its videos are asked for: what is held of two million is their number.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from pipeline.videos.duplicates import find_duplicates, shared_sizes
from pipeline.videos.keys import key_of, segment_text, split_of
from pipeline.videos.listing import Listing, Video, identity
from shards.errors import UserError, given
from shards.format.sidefile import shard_name, split_of_shard

NAME = "plan.jsonl"
Hashes = Callable[[set[str]], Mapping[str, str]]  # keys of finished videos -> those of their hashes that are known


@dataclass(frozen=True)
class Size:
    """A shard is closed at so many videos, or input bytes: known before anything is decoded."""

    videos: int = 256  # a shard is closed at so many videos
    input_gigabytes: float = 4.0  # a shard is closed at videos of so many gigabytes together

    def __post_init__(self) -> None:
        if self.videos < 1 or self.input_gigabytes <= 0:
            values = given(self, "videos", "input_gigabytes")
            raise ValueError(f"a shard holds at least one video and some gigabytes of input, not {values}")

    def full(self, videos: int, input_bytes: int) -> bool:
        return videos >= self.videos or input_bytes >= self.input_gigabytes * 1e9


@dataclass(frozen=True)
class ShardPolicy:
    """How videos are dealt out to shards: which split, and how many to one."""

    size: Size
    validation_share: float
    seed: int


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: a row of the plan. A retry takes up videos that an earlier shard rejected."""

    shard: str
    count: int  # of its videos
    retry: bool
    file: Path
    offset: int  # of the row, in bytes

    @property
    def split(self) -> str:
        return split_of_shard(self.shard)

    @property
    def videos(self) -> list[Video]:
        """In order; read from the file each time."""
        with open(self.file, "rb") as stream:
            stream.seek(self.offset)
            row = json.loads(stream.readline())
        return [Video(**{name: entry[name] for name in entry if name != "key"}) for entry in row["videos"]]


@dataclass(frozen=True)
class Duplicate:
    """An input whose content an earlier one already has; it is taken once."""

    key: str
    path: str
    of: str
    start: float = 0.0
    end: float = math.inf


def sources(folder: Path) -> dict[str, str]:
    """{key: what decides its split} of all planned videos, {} without a plan. Only reads: a run may be appending.

    Raises UserError for what is no plan.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        entries = [entry for row in rows for entry in row.get("videos", [])]
        return {entry["key"]: entry.get("group") or key_of(entry["path"]) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no plan of shards: {error!r}") from None


@dataclass
class Plan:
    """All rows of a plan's file, in order."""

    file: Path
    shards: list[ShardPlan] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    not_taken: dict[str, int] = field(default_factory=dict)  # of the folder, at the last look

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Reads the plan; a last row torn by a kill is cut off the file, it is planned again."""
        plan = cls(folder / NAME)
        if not plan.file.exists():
            return plan
        whole = 0
        with open(plan.file, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                plan._add(json.loads(line), whole)
                whole += len(line)
        if whole < plan.file.stat().st_size:
            os.truncate(plan.file, whole)
        return plan

    def _add(self, row: dict[str, Any], offset: int) -> None:
        if "duplicates" in row:
            self.duplicates += [Duplicate(**entry) for entry in row["duplicates"]]
        elif "not_taken" in row:
            self.not_taken = row["not_taken"]
        else:
            retry = bool(row.get("retry", False))
            self.shards.append(ShardPlan(str(row["shard"]), len(row["videos"]), retry, self.file, offset))

    @property
    def videos(self) -> Iterator[Video]:
        return (video for shard in self.shards if not shard.retry for video in shard.videos)

    def extend(self, listing: Listing, hashes: Hashes, policy: ShardPolicy) -> bool:
        """Write rows for the inputs that the plan does not hold yet; whether there are any."""
        new = self._new(listing)
        if not new.inputs:
            return False
        repeats = self._repeats(new, listing.root, hashes)
        self._write(self._deal((video for video in new if not repeats or video.key not in repeats), policy))
        if repeats:
            repeating = (video for video in new if video.key in repeats)
            found = (
                {"key": each.key, "path": each.path, "of": repeats[each.key]} | _segment(each) for each in repeating
            )
            self._write([{"duplicates": list(found)}])
        return True

    def retry(self, rejected: Iterable[Video], policy: ShardPolicy) -> bool:
        """Write rows that take up rejected videos once more; whether there are any."""
        return self._write(row | {"retry": True} for row in self._deal(rejected, policy))

    def note(self, not_taken: dict[str, int]) -> bool:
        """Write a row with what the folder holds beside its inputs, if the plan says otherwise; whether so."""
        if not_taken == self.not_taken:
            return False
        self._write([{"not_taken": not_taken}])
        self.not_taken = not_taken
        return True

    def _new(self, listing: Listing) -> NewVideos:
        inputs = listing.inputs
        planned = bytearray(len(inputs))  # a set of two million texts would take 60 times as much
        for path, segment in chain(map(_identity, self.videos), map(_identity, self.duplicates)):
            at = bisect_left(inputs, f"{path}\0{segment}" if segment else path)
            if at < len(inputs) and identity(inputs[at]) == (path, segment):
                planned[at] = True
        if any(planned):
            inputs = [text for text, is_planned in zip(inputs, planned, strict=True) if not is_planned]
        return NewVideos(listing, inputs, array("q", (listing.video(text).bytes for text in inputs)))

    def _repeats(self, new: NewVideos, root: str, hashes: Hashes) -> dict[str, str]:
        """{key of a new video: key of the one it repeats}. Only what shares its size with another is looked at."""
        sizes = shared_sizes(new.file_sizes, (video.bytes for video in self.videos))
        if not sizes:
            return {}
        known = [video for video in self.videos if video.bytes in sizes]
        digests = hashes({video.key for video in known}) if known else {}
        return find_duplicates([video for video in new if video.bytes in sizes], known, root, digests)

    def _deal(self, videos: Iterable[Video], policy: ShardPolicy) -> Iterator[dict[str, Any]]:
        """Fill shards in path order, one split each; the row of a full shard comes before what follows it."""
        numbers = Counter(shard.split for shard in self.shards)
        filling: defaultdict[str, list[Video]] = defaultdict(list)
        input_bytes: defaultdict[str, int] = defaultdict(int)

        def closed(split: str) -> dict[str, Any]:
            entries = [_entry(video) for video in filling.pop(split)]
            del input_bytes[split]
            numbers[split] += 1
            return {"shard": shard_name(split, numbers[split] - 1), "videos": entries}

        for video in videos:
            split = split_of(video.source, policy.validation_share, policy.seed)
            filling[split].append(video)
            input_bytes[split] += max(video.bytes, 0)
            if policy.size.full(len(filling[split]), input_bytes[split]):
                yield closed(split)
        for split in sorted(filling):
            yield closed(split)

    def _write(self, rows: Iterable[dict[str, Any]]) -> bool:
        """Append rows to the file, and plan by them once they are on the disk; whether there are any."""
        added = Plan(self.file)
        with open(self.file, "ab") as stream:
            for row in rows:
                added._add(row, stream.tell())
                stream.write(json.dumps(row).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.shards += added.shards
        self.duplicates += added.duplicates
        return bool(added.shards or added.duplicates)


@dataclass(frozen=True)
class NewVideos:
    """Inputs that no row holds yet, in columns: an object for each of two million would take as much again."""

    listing: Listing
    inputs: list[str]
    sizes: array[int]

    def __iter__(self) -> Iterator[Video]:
        return map(self.listing.video_of, self.inputs, self.sizes)

    @property
    def file_sizes(self) -> array[int]:
        """Of each file once; its segments stand side by side."""
        paths = pairwise(chain([""], (text.partition("\0")[0] for text in self.inputs)))
        return array("q", (size for (before, path), size in zip(paths, self.sizes, strict=True) if path != before))


def _entry(video: Video) -> dict[str, Any]:
    """Of a plan's row; what a list does not say is not in it."""
    said = {"group": video.group, "given": video.given}
    entry = {"key": video.key, "path": video.path, "bytes": video.bytes}
    return entry | _segment(video) | {name: value for name, value in said.items() if value}


def _segment(video: Video | Duplicate) -> dict[str, float]:
    return {name: value for name, value in (("start", video.start), ("end", video.end)) if 0 < value < math.inf}


def _identity(video: Video | Duplicate) -> tuple[str, str]:
    return video.path, segment_text(video.start, video.end)
