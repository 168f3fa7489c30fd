"""A sample of a shard folder, of bounded size: clips at equal distances through all shards, read at their offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.format.example import Example
from shards.format.manifest import NAME as MANIFEST
from shards.format.manifest import Manifest, TeacherCard
from shards.format.members import DamagedExample, decode_array
from shards.format.shard import read_example, read_members
from shards.format.sidefile import SideFile
from shards.storage import under

Pick = tuple[str, int]  # a shard's name, and a clip's number in it


@dataclass(frozen=True)
class TeacherHead:
    """One teacher whose labels lie in `folder`: of the shards' own set, or of one that was added beside them."""

    head: str
    teacher_set: str
    card: TeacherCard
    precision: str
    folder: Path


def teacher_heads(folder: Path, manifest: Manifest) -> list[TeacherHead]:
    """The teachers of the folder's own set, then those of the sets beside it, by name."""
    added = sorted(path.parent for path in (folder / "teachers").glob(f"*/{MANIFEST}"))
    sets = [(folder, manifest)] + [(place, Manifest.load(place)) for place in added]
    return [
        TeacherHead(head, labels.teacher_set, card, labels.precision, place)
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
        return read_example(self._location(self.folder), self.sides[self.folder], clip, sample_rate)

    def posteriors(self, clip: int) -> list[tuple[TeacherHead, NDArray[np.float16]]]:
        """Every teacher's posteriors (windows, classes) of one clip."""
        return [(head, self._posterior(head, clip)) for head in self.heads if head.folder in self.sides]

    def _posterior(self, head: TeacherHead, clip: int) -> NDArray[np.float16]:
        side, extension = self.sides[head.folder], f"{head.head}.npy"
        (payload,) = read_members(self._location(head.folder), side, [(clip, extension)])
        try:
            return decode_array(payload)
        except ValueError as error:
            raise DamagedExample(f"{side.keys[clip]}.{extension}: {error}") from None

    def _location(self, folder: Path) -> str | Path:
        """Where the tars of a folder are."""
        if self._tars is None or folder == self.folder:
            return self._tars or folder
        return under(self._tars, folder.relative_to(self.folder).as_posix())


def sampled(
    folder: Path, picks: Sequence[Pick], heads: Sequence[TeacherHead], tars: str | None = None
) -> Iterator[tuple[SampledShard, int]]:
    """Each picked clip with its shard, whose side files are read once."""
    for name, group in groupby(picks, key=lambda pick: pick[0]):
        shard = SampledShard(folder, name, heads, tars)
        yield from ((shard, clip) for _, clip in group)
