"""`make check-shards shards=...`: is every shard of a folder what it says it is?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.cli.command import command
from shards.cli.words import amount
from shards.format.check import check


@dataclass
class CheckSettings:
    """conf/check_shards.yaml."""

    shards: Path  # a folder of shards


def run(settings: CheckSettings) -> None:
    found = check(settings.shards)
    print(
        f"{settings.shards}: {amount(found.shards, 'shard')}, {amount(found.clips, 'clip')}, "
        f"{found.seconds / 3600:.2f} h of sound: whole"
    )


if __name__ == "__main__":
    command(CheckSettings, "check_shards", run)
