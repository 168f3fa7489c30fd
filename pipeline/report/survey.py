"""The count of a shard folder: one pass over the plan and the side files, one shard in memory at a time.

What grows with the corpus is a hash of 8 bytes a video, a name and a number a shard, and the rejects.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from pipeline.videos.plan import NAME as PLAN
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.example import video_of
from shards.format.sidefile import Reject, side_files

EXAMPLES = 5  # of each kind of reject, of duplicates, of dropped clips


@dataclass
class Split:
    """Accepted videos and what they gave, in one split."""

    shards: int = 0
    videos: int = 0
    clips: int = 0
    seconds: float = 0.0
    bytes: int = 0  # of the tars


@dataclass
class Survey:
    """inputs = accepted + rejected + duplicates + waiting; a video that a retry recovered counts as accepted."""

    splits: defaultdict[str, Split] = field(default_factory=lambda: defaultdict(Split))
    rejects: dict[str, Reject] = field(default_factory=dict)  # by video key
    dropped: int = 0
    dropped_examples: list[Reject] = field(default_factory=list)
    planned: int = 0
    duplicates: int = 0
    duplicate_examples: list[dict[str, str]] = field(default_factory=list)  # key, path, of
    shard_clips: list[tuple[str, int]] = field(default_factory=list)  # name, clips
    windows: Counter[int] = field(default_factory=Counter)  # clips by whole windows; 0: shorter than one

    @property
    def total(self) -> Split:
        parts = self.splits.values()
        return Split(
            shards=sum(part.shards for part in parts),
            videos=sum(part.videos for part in parts),
            clips=sum(part.clips for part in parts),
            seconds=sum(part.seconds for part in parts),
            bytes=sum(part.bytes for part in parts),
        )

    @property
    def inputs(self) -> int:
        return self.planned + self.duplicates

    @property
    def waiting(self) -> int:
        return self.planned - self.total.videos - len(self.rejects)

    @property
    def reasons(self) -> list[tuple[str, int, list[Reject]]]:
        """(reason, how many, the first few), the most frequent first."""
        counts = Counter(reject.reason for reject in self.rejects.values())
        examples: defaultdict[str, list[Reject]] = defaultdict(list)
        for reject in self.rejects.values():
            if len(examples[reject.reason]) < EXAMPLES:
                examples[reject.reason].append(reject)
        return [(reason, count, examples[reason]) for reason, count in counts.most_common()]


def survey_of(folder: Path, clip: ClipSpec) -> Survey:
    """Count everything in a shard folder. Raises UserError where a side file or the plan cannot be read."""
    survey = Survey()
    _count_plan(folder / PLAN, survey)
    for side in side_files(folder):
        split = survey.splits[side.split]
        videos = {video_of(key) for key in side.keys}
        split.shards += 1
        split.videos += len(videos)
        split.clips += len(side.keys)
        split.seconds += sum(side.samples) / clip.sample_rate
        split.bytes += side.tar_bytes
        survey.windows.update(samples // clip.window_samples for samples in side.samples)
        survey.shard_clips.append((side.shard, len(side.keys)))
        survey.dropped += len(side.dropped)
        survey.dropped_examples += side.dropped[: EXAMPLES - len(survey.dropped_examples)]
        survey.rejects.update((reject.key, reject) for reject in side.rejects)
        for video in videos & survey.rejects.keys():  # recovered by a retry, whose shards are numbered later
            del survey.rejects[video]
    return survey


def _count_plan(path: Path, survey: Survey) -> None:
    """Distinct inputs of the plan: a retried video stands in it twice, a row torn by a kill counts for nothing."""
    if not path.is_file():
        raise UserError(f"{path.parent} holds no {PLAN}: run the command that made its shards once more")
    planned, duplicates = array("Q"), array("Q")
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            row = json.loads(line)
            planned.extend(_hash(video["key"]) for video in row.get("videos", []))
            repeats = row.get("duplicates", [])
            duplicates.extend(_hash(repeat["key"]) for repeat in repeats)
            survey.duplicate_examples += repeats[: EXAMPLES - len(survey.duplicate_examples)]
    survey.planned = len(np.unique(np.asarray(planned)))
    survey.duplicates = len(np.unique(np.asarray(duplicates)))


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
