"""`python -m shards check DIR`: is every shard of a folder what it says it is?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shards.cli.pipes import ending_quietly
from shards.errors import UserError
from shards.format.check import check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shards", description="Look after a folder of shards.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="verify hashes, counts, shapes, sums, keys and splits")
    checking.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    try:
        found = check(folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder}: {found.shards} shards, {found.clips} clips, {found.seconds / 3600:.2f} h of sound: whole")
    return 0


if __name__ == "__main__":
    with ending_quietly():
        sys.exit(main())
