"""The index of a shard: which clips it holds, how long, and where in the tar the bytes of each member are.

It is read from the side file alone, at a path or a URL. A side file is outside data: that what it says is possible is
checked here, before a byte is read or allocated because of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError
from shards.format.manifest import NAME, Manifest
from shards.format.members import WAV_HEADER_BYTES
from shards.format.shard import REMEDY
from shards.format.sidefile import SideFile, split_of_shard
from shards.loader.keep import Keep
from shards.loader.tars.store import Tar
from shards.storage import fetch_into, is_remote, names_in

Keys = NDArray[Any]  # (clips,) of StringDType, whose strings have a width each
Counts = NDArray[np.int64]  # (clips,)
Checksums = NDArray[np.uint32]  # (clips,), of what a member decodes to
Places = NDArray[np.int64]  # (clips, 2): offset and bytes of a member's payload in its tar
MAX_NPY_HEADER_BYTES = 10 + 2**16  # of version 1.0
EVERY_CLIP = Keep()
SHA256 = re.compile("[0-9a-f]{64}")  # nothing else may become the name of a file in the cache


@contextmanager
def metadata(location: str, split: str) -> Iterator[tuple[Path, list[str]]]:
    """The folder to load the manifest and a split's side files from, and the names of the split's shards, sorted.

    For a URL the folder is a temporary copy. Raises UserError where a URL holds no manifest.
    """
    names = names_in(location)
    shards = [name[:-5] for name in sorted(names) if name.endswith(".json") and split_of_shard(name) == split]
    if not is_remote(location):
        yield Path(location), shards
        return
    if NAME not in names:
        raise UserError(f"{location} holds no {NAME}: copy a whole shard folder there, made by `make teacher-shards`")
    wanted = [NAME, *(f"{shard}.json" for shard in shards)]
    with tempfile.TemporaryDirectory() as folder:
        fetch_into(folder, location, wanted)
        yield Path(folder), shards


def require_there(files: Iterable[str]) -> None:
    """Raise UserError, before anything is read, where files are missing from their folders."""
    folders: dict[str, set[str]] = {}
    for file in files:
        folder, name = file.rsplit("/", 1)
        if folder not in folders:
            folders[folder] = names_in(folder)
        if name not in folders[folder]:
            raise UserError(
                f"{folder} holds {Path(name).with_suffix('.json')} but not {name}: put it back, or delete the .json "
                "and make the shard again with the same `make` command"
            )


@dataclass(frozen=True)
class ShardIndex:
    """The clips of one shard in columns, in the order of its tar."""

    tar: Tar
    keys: Keys
    samples: Counts
    windows: Counts
    sounds: Places  # empty where only labels are wanted
    posteriors: dict[str, Places]
    sound_checksums: Checksums  # empty where only labels are wanted
    posterior_checksums: dict[str, Checksums]
    posterior_sums: dict[str, NDArray[np.float64]]  # head -> sum over all windows of all clips, (classes,)
    kept: NDArray[np.bool_]  # (clips,), whether a clip is wanted

    def of(self, clips: NDArray[np.bool_]) -> ShardIndex:
        """These clips alone; the sums stay those of all."""
        if clips.all():
            return self
        columns = ("keys", "samples", "windows", "kept", *(["sounds", "sound_checksums"] if len(self.sounds) else []))
        return replace(
            self,
            **{name: getattr(self, name)[clips] for name in columns},
            posteriors={head: places[clips] for head, places in self.posteriors.items()},
            posterior_checksums={head: sums[clips] for head, sums in self.posterior_checksums.items()},
        )


def load_index(path: Path, location: str, manifest: Manifest, *, sound: bool, keep: Keep = EVERY_CLIP) -> ShardIndex:
    """The side file at `path` of the shard folder at `location`. Raises UserError, naming the first odd clip.

    `keep` goes by what only a shard with sound says.
    """
    side = SideFile.load(path)
    heads = list(manifest.teachers) if side.keys else []  # a shard of rejects alone has no members
    try:
        index = ShardIndex(
            tar=Tar(f"{location}/{side.shard}.tar", side.tar_bytes, side.tar_sha256),
            keys=np.array(side.keys, np.dtypes.StringDType()),
            samples=np.array(side.samples, np.int64),
            windows=np.array(side.windows, np.int64),
            sounds=_places(side, manifest.audio) if sound and side.keys else np.empty((0, 2), np.int64),
            posteriors={head: _places(side, f"{head}.npy") for head in heads},
            sound_checksums=_checksums(side, manifest.audio) if sound and side.keys else np.empty(0, np.uint32),
            posterior_checksums={head: _checksums(side, f"{head}.npy") for head in heads},
            posterior_sums={head: np.array(side.posterior_sums[head], np.float64) for head in heads},
            kept=keep.of(side),
        )
        if not SHA256.fullmatch(side.tar_sha256):
            raise ValueError(f"it describes a tar with sha256 {side.tar_sha256}")
        _require_possible(index, manifest)
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise UserError(f"{location}/{path.name} is no side file of this folder: {error}. {REMEDY}") from None
    return index


def _places(side: SideFile, extension: str) -> Places:
    places = side.members.get(extension, [None] * len(side.keys))
    if None in places:
        raise ValueError(f"{side.keys[places.index(None)]}.{extension} is missing")
    return np.array(places, np.int64).reshape(-1, 2)


def _checksums(side: SideFile, extension: str) -> Checksums:
    return np.array(side.checksums[extension], np.uint32)


def _require_possible(index: ShardIndex, manifest: Manifest) -> None:
    samples, windows = index.samples, index.windows
    _refuse(index, (samples < 1) | (samples > manifest.clip.samples), "number of samples")
    _refuse(index, (windows < 1) | (windows > manifest.clip.windows), "number of windows")
    if len(index.sounds):
        _refuse(index, _outside(index.sounds, index.tar), "place of its sound")
        if manifest.audio == "wav":
            _refuse(index, index.sounds[:, 1] != WAV_HEADER_BYTES + 2 * samples, "size of its sound")
    for head, places in index.posteriors.items():
        classes = len(manifest.teachers[head].classes)
        header_bytes = places[:, 1] - 2 * windows * classes
        _refuse(index, _outside(places, index.tar), f"place of {head}")
        _refuse(index, (header_bytes < 1) | (header_bytes > MAX_NPY_HEADER_BYTES), f"size of {head}")
        if index.posterior_sums[head].shape != (classes,):
            raise ValueError(f"it sums other classes of {head} than the {classes} of the manifest")


def _outside(places: Places, tar: Tar) -> NDArray[np.bool_]:
    offsets, sizes = places[:, 0], places[:, 1]
    return (offsets < 0) | (sizes < 0) | (sizes > tar.bytes) | (offsets > tar.bytes - sizes)


def _refuse(index: ShardIndex, odd: NDArray[np.bool_], what: str) -> None:
    if odd.any():
        raise ValueError(f"the {what} it gives for {index.keys[int(np.argmax(odd))]} cannot be")
