"""A shard folder under work: a run's place for sound, what is finished, and an account of all inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.videos.plan import Plan
from shards.files import write_whole
from shards.format.example import video_of
from shards.format.sidefile import Reject, SideFile

REJECTS = "rejects.jsonl"


@dataclass(frozen=True)
class Account:
    """Where every input went: inputs = accepted + rejected + duplicates + waiting (in shards not finished yet)."""

    inputs: int
    accepted: int
    rejects: list[Reject]
    duplicates: int
    waiting: int
    clips: int
    seconds: float

    def __str__(self) -> str:
        text = (
            f"{self.inputs} inputs = {self.accepted} accepted + {len(self.rejects)} rejected "
            f"+ {self.duplicates} duplicates"
        )
        text += f" + {self.waiting} waiting" if self.waiting else ""
        return f"{text}; {self.clips} clips, {self.seconds / 3600:.2f} h of sound"


def account_for(plan: Plan, sides: Iterable[SideFile], sample_rate: int) -> Account:
    """Count each input once: a video that a retry recovered is accepted, whatever an earlier shard said.

    `sides` come in order of name, in which a retry follows the shard that rejected. Only rejects are held.
    """
    planned = sum(shard.count for shard in plan.shards if not shard.retry)
    rejects: dict[str, Reject] = {}
    accepted = clips = samples = 0
    for side in sides:
        videos = {video_of(key) for key in side.keys}
        accepted += len(videos)
        rejects |= {reject.key: reject for reject in side.rejects}
        for video in videos & rejects.keys():
            del rejects[video]
        clips += len(side.keys)
        samples += sum(side.samples)
    return Account(
        inputs=planned + len(plan.duplicates),
        accepted=accepted,
        rejects=list(rejects.values()),
        duplicates=len(plan.duplicates),
        waiting=planned - accepted - len(rejects),
        clips=clips,
        seconds=samples / sample_rate,
    )


def write_rejects(folder: Path, rejects: list[Reject]) -> None:
    """`rejects.jsonl`, for reading; derived from the side files and never read back."""
    write_whole(folder / REJECTS, "".join(json.dumps(asdict(reject)) + "\n" for reject in rejects).encode())
