"""A bounded sample of a shard folder: clips spread evenly over all shards, read member by member at their offsets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.format.codec import DamagedExample, decode, decode_array
from shards.format.example import Example
from shards.format.manifest import NAME as MANIFEST
from shards.format.manifest import Manifest, TeacherCard
from shards.format.sidefile import SideFile
from shards.storage import file_system, reaching, under

Pick = tuple[str, int]  # a shard's name, and a clip's number in it


@dataclass(frozen=True)
class TeacherHead:
    """One teacher whose labels lie in `folder`: of the shards' own set, or of one that was added beside them."""

    head: str
    teacher_set: str
    card: TeacherCard
    folder: Path


def teacher_heads(folder: Path, manifest: Manifest) -> list[TeacherHead]:
    """The teachers of the folder's own set, then those of the sets beside it, by name."""
    added = sorted(path.parent for path in (folder / "teachers").glob(f"*/{MANIFEST}"))
    sets = [(folder, manifest)] + [(place, Manifest.load(place)) for place in added]
    return [
        TeacherHead(head, labels.teacher_set, card, place)
        for place, labels in sets
        for head, card in sorted(labels.teachers.items())
    ]


def evenly(shard_clips: Sequence[tuple[str, int]], count: int) -> list[Pick]:
    """Up to `count` clips at equal distances through all shards, given as (name, clips), in order."""
    ends = np.cumsum([clips for _, clips in shard_clips])
    total = int(ends[-1]) if shard_clips else 0
    count = min(count, total)
    picks = []
    for position in ((2 * index + 1) * total // (2 * count) for index in range(count)):
        shard = int(np.searchsorted(ends, position, side="right"))
        name, clips = shard_clips[shard]
        picks.append((name, position - int(ends[shard]) + clips))
    return picks


class SampledShard:
    """One shard and the labels that other teacher sets have for it. Reads raise DamagedExample.

    `tars`: the URL where the tars are, if they are not in the folder.
    """

    def __init__(self, folder: Path, shard: str, heads: Sequence[TeacherHead], tars: str | None = None) -> None:
        self.folder, self.shard, self.heads, self._tars = folder, shard, heads, tars
        paths = {place: place / f"{shard}.json" for place in (folder, *(head.folder for head in heads))}
        # A relabel that is under way has not reached every shard.
        self.sides = {place: SideFile.load(path) for place, path in paths.items() if path.is_file()}

    def example(self, clip: int, sample_rate: int) -> Example:
        side = self.sides[self.folder]
        members = {name: self._member(self.folder, name, clip) for name in side.members if side.members[name][clip]}
        return decode(side.keys[clip], members, sample_rate)

    def posteriors(self, clip: int) -> list[tuple[TeacherHead, NDArray[np.float16]]]:
        """Every teacher's posteriors (windows, classes) of one clip."""
        return [
            (head, self._posterior(head.folder, f"{head.head}.npy", clip))
            for head in self.heads
            if head.folder in self.sides
        ]

    def _posterior(self, folder: Path, name: str, clip: int) -> NDArray[np.float16]:
        try:
            return decode_array(self._member(folder, name, clip))
        except (KeyError, ValueError) as error:
            raise DamagedExample(f"{self.sides[folder].keys[clip]}.{name}: {error}") from None

    def _member(self, folder: Path, name: str, clip: int) -> bytes:
        place = self.sides[folder].members[name][clip]
        if place is None:
            raise DamagedExample(f"{self.sides[folder].keys[clip]}.{name} is missing")
        offset, size = place
        tar = folder / f"{self.shard}.tar"
        if self._tars is not None:
            system, path = file_system(under(self._tars, tar.relative_to(self.folder).as_posix()))
            with reaching(self._tars):
                data: bytes = system.cat_file(path, start=offset, end=offset + size)
            return data
        if offset + size > tar.stat().st_size:  # before a side file's number becomes an allocation
            raise DamagedExample(f"{tar} ends before {self.sides[folder].keys[clip]}.{name}")
        with open(tar, "rb") as stream:
            return os.pread(stream.fileno(), size, offset)


def sampled(
    folder: Path, picks: Sequence[Pick], heads: Sequence[TeacherHead], tars: str | None = None
) -> Iterator[tuple[SampledShard, int]]:
    """Each picked clip with its shard, whose side files are read once."""
    for name, group in groupby(picks, key=lambda pick: pick[0]):
        shard = SampledShard(folder, name, heads, tars)
        yield from ((shard, clip) for _, clip in group)
