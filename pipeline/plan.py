"""The plan, `plan.jsonl`: which videos make which shard, and which inputs repeat another. Append-only.

An unfinished plan is finished before anything else is made; videos that come later become new shards.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.duplicates import find_duplicates
from pipeline.keys import split_of
from pipeline.sources import Listing, Video

NAME = "plan.jsonl"


@dataclass(frozen=True)
class Size:
    """A shard is closed at so many videos, or input bytes: known before anything is decoded."""

    videos: int = 256
    input_gigabytes: float = 4.0

    def __post_init__(self) -> None:
        if self.videos < 1 or self.input_gigabytes <= 0:
            raise ValueError(f"a shard holds at least one video and some gigabytes of input, not {self}")

    def full(self, videos: int, input_bytes: int) -> bool:
        return videos >= self.videos or input_bytes >= self.input_gigabytes * 1e9


@dataclass(frozen=True)
class Dealing:
    """How videos are dealt out to shards: which split, and how many to one."""

    size: Size
    validation_share: float
    seed: int


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: its videos in order. A retry takes up videos that an earlier shard rejected."""

    shard: str
    videos: list[Video]
    retry: bool = False

    @property
    def split(self) -> str:
        return self.shard.rsplit("-", 1)[0]


@dataclass(frozen=True)
class Duplicate:
    """An input whose content an earlier one already has; it is taken once."""

    key: str
    path: str
    of: str


@dataclass
class Plan:
    """All rows of plan.jsonl, in order."""

    shards: list[ShardPlan] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Reads the plan; a last row torn by a kill is cut off the file, it is planned again."""
        plan, path = cls(), folder / NAME
        if not path.exists():
            return plan
        whole = 0
        with open(path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                plan._add(json.loads(line))
                whole += len(line)
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        return plan

    def _add(self, row: dict[str, list[dict[str, str | int]]]) -> None:
        if "duplicates" in row:
            self.duplicates += [Duplicate(**entry) for entry in row["duplicates"]]  # type: ignore[arg-type]
        else:
            videos = [Video(str(entry["path"]), int(entry["bytes"])) for entry in row["videos"]]
            self.shards.append(ShardPlan(str(row["shard"]), videos, bool(row.get("retry", False))))

    @property
    def videos(self) -> Iterator[Video]:
        return (video for shard in self.shards if not shard.retry for video in shard.videos)

    def extend(
        self, listing: Listing, hashes: Mapping[str, str], dealing: Dealing
    ) -> tuple[list[ShardPlan], list[Duplicate]]:
        """Rows for the inputs that the plan does not hold yet. `hashes`: of videos in finished shards, by key."""
        planned = {video.path for video in self.videos} | {duplicate.path for duplicate in self.duplicates}
        fresh = [listing.video(path) for path in listing.paths if path not in planned]
        repeats = find_duplicates(fresh, self.videos, listing.root, hashes)
        duplicates = [Duplicate(video.key, video.path, repeats[video.path]) for video in fresh if video.path in repeats]
        taken = (video for video in fresh if video.path not in repeats)
        return self._deal(taken, dealing), duplicates

    def retry(self, rejected: Iterable[Video], dealing: Dealing, *, after: list[ShardPlan]) -> list[ShardPlan]:
        """Rows that take up rejected videos once more, numbered behind the rows `after`."""
        return self._deal(rejected, dealing, after=after, retry=True)

    def _deal(
        self, videos: Iterable[Video], dealing: Dealing, *, after: Iterable[ShardPlan] = (), retry: bool = False
    ) -> list[ShardPlan]:
        """Fill shards in path order, one split each; the row of a full shard comes before what follows it."""
        numbers = Counter(shard.split for shard in (*self.shards, *after))
        rows: list[ShardPlan] = []
        filling: defaultdict[str, list[Video]] = defaultdict(list)
        input_bytes: defaultdict[str, int] = defaultdict(int)

        def close(split: str) -> None:
            rows.append(ShardPlan(f"{split}-{numbers[split]:06d}", filling.pop(split), retry))
            numbers[split] += 1
            del input_bytes[split]

        for video in videos:
            split = split_of(video.key, dealing.validation_share, dealing.seed)
            filling[split].append(video)
            input_bytes[split] += max(video.bytes, 0)
            if dealing.size.full(len(filling[split]), input_bytes[split]):
                close(split)
        for split in sorted(filling):
            close(split)
        return rows

    def append(self, folder: Path, shards: list[ShardPlan], duplicates: list[Duplicate]) -> None:
        """Write the new rows to disk, and only then plan by them."""
        with open(folder / NAME, "a") as stream:
            for shard in shards:
                videos = [{"key": video.key, "path": video.path, "bytes": video.bytes} for video in shard.videos]
                row = {"shard": shard.shard, "videos": videos} | ({"retry": True} if shard.retry else {})
                stream.write(json.dumps(row) + "\n")
            if duplicates:
                stream.write(json.dumps({"duplicates": [asdict(duplicate) for duplicate in duplicates]}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.shards += shards
        self.duplicates += duplicates
