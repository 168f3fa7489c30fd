"""One finished shard, read clip by clip at the places that its side file gives; no other byte of its tar is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shards.errors import ContractError
from shards.format.example import ClipMeta, Example
from shards.format.members import DamagedExample, checksum, decode
from shards.format.sidefile import SideFile
from shards.storage import address, file_system, is_remote, reaching

REMEDY = "Delete the shard's .tar and .json and make it again with the same `make` command."
REMEDY_OR_SKIP = f"{REMEDY[:-1]}, or train without what is damaged: streaming.on_bad_shard=skip."


class DamagedShard(ContractError):
    """A tar is not what its side file says; the message names the shard and, where it is one clip's fault, the key."""


def read_members(location: str | Path, side: SideFile, members: Sequence[tuple[int, str]]) -> list[bytes]:
    """The payloads of `members`, each (clip, extension), of a shard in the folder at a path or URL.

    Raises DamagedExample, naming key and member; UserError where a URL cannot be reached.
    """
    tar = address(str(location), f"{side.shard}.tar")
    places = [_place(side, clip, extension) for clip, extension in members]
    payloads = read_places(tar, places)
    for (clip, extension), (offset, size), payload in zip(members, places, payloads, strict=True):
        if len(payload) != size:
            raise DamagedExample(f"{tar} ends before {side.keys[clip]}.{extension}, {size} bytes at {offset}")
    return payloads


def read_places(tar: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
    """What lies at each place (offset, bytes) of a tar at a path or URL; shorter where the tar ends before it.

    Raises UserError where a URL cannot be reached, OSError where a path cannot be opened.
    """
    if is_remote(tar):
        system, path = file_system(tar)
        starts, ends = [offset for offset, _ in places], [offset + size for offset, size in places]
        with reaching(tar.rpartition("/")[0]):
            payloads: list[bytes] = system.cat_ranges([path] * len(places), starts, ends, on_error="raise")
        return payloads
    with open(tar, "rb") as stream:
        bytes_there = os.fstat(stream.fileno()).st_size
        # No more is asked for than is there: a side file's number must not become an allocation.
        return [os.pread(stream.fileno(), min(size, max(bytes_there - offset, 0)), offset) for offset, size in places]


def _place(side: SideFile, clip: int, extension: str) -> tuple[int, int]:
    place = side.members.get(extension, [None] * len(side.keys))[clip]
    if place is None:
        raise DamagedExample(f"{side.shard}.tar lacks {side.keys[clip]}.{extension}")
    return place


def examples(location: str | Path, side: SideFile, sample_rate: int) -> Iterator[Example]:
    """Every example in the order written. Raises DamagedExample."""
    return (read_example(location, side, clip, sample_rate) for clip in range(len(side.keys)))


def read_example(location: str | Path, side: SideFile, clip: int, sample_rate: int) -> Example:
    """One clip with all of its members. Raises DamagedExample."""
    extensions = [extension for extension, places in side.members.items() if places[clip] is not None]
    payloads = read_members(location, side, [(clip, extension) for extension in extensions])
    return decode(side.keys[clip], dict(zip(extensions, payloads, strict=True)), sample_rate)


def metas(location: str | Path, side: SideFile) -> Iterator[ClipMeta]:
    """Where each clip comes from, without its sound.

    Raises DamagedShard where a json member is not as it was written: labels of other frames would fit no sound.
    """
    try:
        texts = read_members(location, side, [(clip, "json") for clip in range(len(side.keys))])
    except DamagedExample as error:
        raise DamagedShard(f"{error}. {REMEDY}") from None
    for key, text, recorded in zip(side.keys, texts, side.checksums.get("json", [-1] * len(texts)), strict=True):
        try:
            if checksum(np.frombuffer(text, np.uint8)) != recorded:
                raise ValueError("its checksum is not that of its side file")
            yield ClipMeta.of_json(text)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedShard(f"{side.shard}.tar: {key}.json: {error}. {REMEDY}") from None
