"""The account of a shard folder, what became of each input: one pass over the plan and the side files.

One shard is in memory at a time; what grows with the corpus is a name and a number a shard, and the rejects.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.videos.listing import counted
from pipeline.videos.plan import NAME as PLAN
from shards.cli.words import amount
from shards.errors import UserError
from shards.files import write_whole
from shards.format.clip import ClipSpec
from shards.format.example import MediaAccount, video_of
from shards.format.sidefile import Reject, side_files

REJECTS = "rejects.jsonl"
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
class Account:
    """inputs = accepted (total.videos) + rejected + duplicates + waiting, in shards that are not finished yet.

    Each input counts once: a video that a retry recovered is accepted, whatever an earlier shard says of it.
    """

    splits: defaultdict[str, Split] = field(default_factory=lambda: defaultdict(Split))
    rejects: dict[str, Reject] = field(default_factory=dict)  # by video key
    media: MediaAccount = field(default_factory=MediaAccount)  # of the accepted videos
    mostly_unused: int = 0  # videos of which less than half came into clips
    mostly_unused_examples: list[str] = field(default_factory=list)  # paths
    dropped: int = 0
    dropped_examples: list[Reject] = field(default_factory=list)
    planned: int = 0
    duplicates: int = 0
    not_taken: dict[str, int] = field(default_factory=dict)  # by suffix, of the folder at the last look
    duplicate_examples: list[dict[str, str]] = field(default_factory=list)  # key, path, of
    shard_clips: list[tuple[str, int]] = field(default_factory=list)  # name, clips
    windows: Counter[int] = field(default_factory=Counter)  # clips by whole windows; 0: shorter than one

    def __str__(self) -> str:
        total = self.total
        text = f"{amount(self.inputs, 'input')} = {total.videos} accepted + {len(self.rejects)} rejected"
        text += f" + {amount(self.duplicates, 'duplicate')}" + (f" + {self.waiting} waiting" if self.waiting else "")
        text += f"; {amount(total.clips, 'clip')}, {total.seconds / 3600:.2f} h of sound; {self.media}"
        repaired = ", ".join(f"{count:g} {what}" for what, count in sorted(self.media.repaired.items()))
        text += f"; repaired: {repaired}" if repaired else ""
        return f"{text}; files not taken: {counted(self.not_taken)}" if self.not_taken else text

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


def account_of(folder: Path, clip: ClipSpec) -> Account:
    """Count everything in a shard folder. Raises UserError where a side file or the plan cannot be read."""
    account = Account()
    _count_plan(folder / PLAN, account)
    for side in side_files(folder):  # by name, in which a retry follows the shard that rejected
        split = account.splits[side.split]
        videos = {video_of(key) for key in side.keys}
        split.shards += 1
        split.videos += len(videos)
        split.clips += len(side.keys)
        split.seconds += sum(side.samples) / clip.sample_rate
        split.bytes += side.tar_bytes
        account.windows.update(samples // clip.window_samples for samples in side.samples)
        account.shard_clips.append((side.shard, len(side.keys)))
        account.media += side.media
        account.mostly_unused += len(side.mostly_unused)
        account.mostly_unused_examples += side.mostly_unused[: EXAMPLES - len(account.mostly_unused_examples)]
        account.dropped += len(side.dropped)
        account.dropped_examples += side.dropped[: EXAMPLES - len(account.dropped_examples)]
        account.rejects.update((reject.key, reject) for reject in side.rejects)
        for video in videos & account.rejects.keys():  # recovered by a retry
            del account.rejects[video]
    return account


def _count_plan(path: Path, account: Account) -> None:
    """The inputs of the plan. A row torn by a kill counts for nothing, a retry for no new input."""
    if not path.is_file():
        raise UserError(f"{path.parent} holds no {PLAN}: run the command that made its shards once more")
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            row = json.loads(line)
            repeats = row.get("duplicates", [])
            account.planned += 0 if row.get("retry") else len(row.get("videos", []))
            account.duplicates += len(repeats)
            account.not_taken = row.get("not_taken", account.not_taken)
            account.duplicate_examples += repeats[: EXAMPLES - len(account.duplicate_examples)]


def write_rejects(folder: Path, account: Account) -> None:
    """`rejects.jsonl`, for reading; derived from the side files and never read back."""
    lines = (json.dumps(asdict(reject)) + "\n" for reject in account.rejects.values())
    write_whole(folder / REJECTS, "".join(lines).encode())
