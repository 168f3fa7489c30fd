"""One finished shard, read clip by clip through its side file's index."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.format.codec import DamagedExample, checksum, decode
from shards.format.example import ClipMeta, Example
from shards.format.sidefile import SideFile

REMEDY = "Delete the shard's .tar and .json and make it again with the same `make` command."
REMEDY_OR_SKIP = f"{REMEDY[:-1]}, or train without what is damaged: streaming.on_bad_shard=skip."


def examples(folder: Path, side: SideFile, sample_rate: int) -> Iterator[Example]:
    """Every example in the order written. Raises DamagedExample."""
    with open(folder / f"{side.shard}.tar", "rb") as stream:
        for clip, key in enumerate(side.keys):
            places = {name: column[clip] for name, column in side.members.items()}
            members = {
                name: _read(stream.fileno(), key, name, place) for name, place in places.items() if place is not None
            }
            yield decode(key, members, sample_rate)


def metas(folder: Path, side: SideFile) -> Iterator[ClipMeta]:
    """Where each clip comes from, without its sound. Raises DamagedExample, DamagedShard."""
    with open(folder / f"{side.shard}.tar", "rb") as stream:
        for clip, key in enumerate(side.keys):
            place = side.members["json"][clip]
            if place is None:
                raise DamagedExample(f"{key}: {key}.json is missing")
            yield meta_of(side, clip, _read(stream.fileno(), key, "json", place))


def meta_of(side: SideFile, clip: int, text: bytes) -> ClipMeta:
    """A clip's json member. Raises DamagedShard where it is not as written: labels of other frames fit no sound."""
    try:
        if checksum(np.frombuffer(text, np.uint8)) != side.checksums["json"][clip]:
            raise ValueError("its checksum is not that of its side file")
        return ClipMeta(**json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedShard(f"{side.shard}.tar: {side.keys[clip]}.json: {error}. {REMEDY}") from None


def _read(descriptor: int, key: str, name: str, place: tuple[int, int]) -> bytes:
    offset, size = place
    if size > os.fstat(descriptor).st_size - offset:  # before a side file's number becomes an allocation
        raise DamagedExample(f"{key}.{name}: {size} bytes at {offset} lie beyond the end of the tar")
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise DamagedExample(f"{key}.{name}: {len(data)} of {size} bytes could be read")
    return data


class DamagedShard(UserError):
    """A tar is not what its side file says; the message names the shard and, where it is one clip's fault, the key."""
