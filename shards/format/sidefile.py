"""The side file of a shard: hash, counts, index and sums, renamed into place after its tar. It means: finished.

The index is kept in columns, so that the order of two million clips is planned without opening a tar.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.errors import UserError, require_format
from shards.files import write_whole
from shards.format.example import MediaAccount, is_given

FORMAT = 3
SIDE_FILES = "*-[0-9]*.json"  # of a folder, whatever the split


def shard_name(split: str, number: int) -> str:
    """`train-000007`: what its tar and its side file are called, without the ending."""
    return f"{split}-{number:06d}"


def split_of_shard(shard: str) -> str:
    """`train` or `validation`: the way back from `shard_name`."""
    return shard.rpartition("-")[0]


@dataclass(frozen=True)
class Reject:
    """An input that gave no clip, and why."""

    key: str
    path: str
    reason: str  # one of the names in docs and report
    detail: str


@dataclass(frozen=True)
class SideFile:
    """Facts on one shard. `keys`, `samples`, `windows` and each list of `members` and `checksums` run in parallel.

    So do `peak_db`, `rms_db` and `given`, which are those of the clips' json; they are empty where a shard holds labels
    alone.
    """

    shard: str  # train-000000
    tar_bytes: int
    tar_sha256: str
    keys: list[str]
    samples: list[int]
    windows: list[int]
    peak_db: list[float]  # dBFS
    rms_db: list[float]
    given: list[dict[str, str]]  # what the list of videos said of each clip, by column
    members: dict[str, list[tuple[int, int] | None]]  # extension -> (offset, bytes) of the payload, clip by clip
    checksums: dict[str, list[int]]  # extension -> checksum of the array in it (json: of its bytes), by clip
    posterior_sums: dict[str, list[float]]  # head -> sum over all windows of all clips, (classes,)
    rejects: list[Reject]
    dropped: list[Reject]  # clips given up in videos that gave others
    media: MediaAccount  # of its accepted videos, summed
    mostly_unused: list[str]  # paths of videos of which less than half came into clips
    video_hashes: dict[str, str]  # video key -> sha256 of the file, rejects included where it could be read
    libraries: dict[str, str]
    format: int = FORMAT

    @property
    def split(self) -> str:
        return split_of_shard(self.shard)

    def save(self, folder: Path) -> None:
        write_whole(folder / f"{self.shard}.json", json.dumps(asdict(self), sort_keys=True).encode())

    @classmethod
    def load(cls, path: Path) -> SideFile:
        """Raises UserError where the file is not a side file of this format."""
        try:
            fields = json.loads(path.read_bytes())
            require_format(path, fields.get("format"), FORMAT)
            fields["rejects"] = [Reject(**reject) for reject in fields["rejects"]]
            fields["dropped"] = [Reject(**reject) for reject in fields["dropped"]]
            fields["members"] = {
                extension: [None if place is None else _place(*place) for place in places]
                for extension, places in fields["members"].items()
            }
            fields["media"] = MediaAccount(**fields["media"])
            side = cls(**fields)
            if side.shard != path.stem:  # a name that becomes a path
                raise ValueError(f"it describes shard {side.shard!r}")
            columns: list[list[Any]] = [
                side.keys,
                side.samples,
                side.windows,
                *side.members.values(),
                *side.checksums.values(),
                *(column for column in (side.peak_db, side.rms_db, side.given) if column != []),
            ]
            if not all(map(is_given, side.given)):
                raise ValueError("its `given` is not {name: text} for each clip")
            lengths = set(map(len, columns))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path} is not a shard's side file: {error}. Delete it to have the shard made again."
            ) from None
        if len(lengths) > 1:
            raise UserError(f"{path}: its columns have different lengths {sorted(lengths)}. Delete it.")
        return side


def _place(offset: int, size: int) -> tuple[int, int]:
    if min(offset, size) < 0:
        raise ValueError(f"a member of {size} bytes at {offset} cannot be")
    return int(offset), int(size)


def side_files(folder: Path) -> Iterator[SideFile]:
    """All side files of a folder in order of name, one in memory at a time, wherever their tars are."""
    return (SideFile.load(path) for path in sorted(folder.glob(SIDE_FILES)))


def finished(folder: Path) -> Iterator[SideFile]:
    """The same, of shards whose tar is in the folder."""
    for tar in sorted(folder.glob("*.tar")):
        if tar.with_suffix(".json").is_file():
            yield SideFile.load(tar.with_suffix(".json"))


def index_members(tar: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """{key: {extension: (offset, bytes)}} of a tar's members, in their order. A name splits at its first dot.

    Raises ValueError for what is no plain file with a plain name, tarfile.TarError for what is no tar.
    """
    index: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            key, _, extension = member.name.partition(".")
            if not member.isfile() or not extension or "/" in member.name or extension in index.get(key, {}):
                raise ValueError(f"{tar.name}: unexpected member {member.name!r}")
            index.setdefault(key, {})[extension] = (member.offset_data, member.size)
    return index
