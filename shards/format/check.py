"""Checking a shard folder: hashes, counts, shapes, sums of posteriors, keys and splits. Stops at the first fault."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.errors import ContractError
from shards.files import sha256_of
from shards.format.example import Example, video_of
from shards.format.manifest import Manifest
from shards.format.members import DamagedExample, checksum
from shards.format.shard import examples
from shards.format.sidefile import SIDE_FILES, SideFile, finished, index_members
from shards.media.levels import levels

LEVEL_TOLERANCE = 0.011  # dB: they are rounded to 0.01, and another program may round otherwise
ROW_SUM_TOLERANCE = 2e-3  # a renormalised float16 row of a thousand classes stays within this of 1


class Fault(ContractError):
    """Two parts of a folder disagree: what is wrong, and where."""


@dataclass(frozen=True)
class Checked:
    shards: int
    clips: int
    seconds: float


def check(folder: Path) -> Checked:
    """Read every byte of every shard once. Raises Fault (or UserError) naming the first thing that is wrong."""
    manifest = Manifest.load(folder)
    require_pairs(folder)
    shards = samples = 0
    seen: dict[str, str] = {}
    splits: dict[str, str] = {}
    for side in finished(folder):
        shards, samples = shards + 1, samples + sum(side.samples)
        _check_tar(folder, side)
        for clip, example in enumerate(_examples(folder, side, manifest)):
            where = f"{side.shard}: {example.key}"
            if example.key in seen:
                raise Fault(f"{where} is also in {seen[example.key]}")
            seen[example.key] = side.shard
            split = splits.setdefault(example.meta.video, side.split)
            if split != side.split or video_of(example.key) != example.meta.video:
                raise Fault(f"{where}: its video {example.meta.video} is in {split}, this shard in {side.split}")
            if (len(example.waveform), _windows(example)) != (side.samples[clip], side.windows[clip]):
                raise Fault(f"{where}: the side file says {side.samples[clip]} samples, {side.windows[clip]} windows")
            _check_example(where, example, manifest)
            _check_checksums(where, example, side, clip, manifest.audio)
            _check_columns(where, example, side, clip)
            _check_frames(where, example, kept=manifest.keep_frames)
    for teachers in sorted((folder / "teachers").glob("*/")):
        _check_teacher_set(folder, teachers)
    return Checked(shards, len(seen), samples / manifest.clip.sample_rate)


def require_pairs(folder: Path) -> None:
    """Raise Fault for a tar without a side file, left by a killed run, or a side file that has lost its tar."""
    tars = {path.stem for path in folder.glob("*.tar")}
    sides = {path.stem for path in folder.glob(SIDE_FILES)}
    if tars != sides:
        raise Fault(
            f"{folder}: {sorted(tars ^ sides)[0]} has only one of tar and side file: run the same command again"
        )


def _examples(folder: Path, side: SideFile, manifest: Manifest) -> Iterator[Example]:
    totals: dict[str, NDArray[np.float64]] = {}
    try:
        for example in examples(folder, side, manifest.clip.sample_rate):
            for head, posterior in example.posteriors.items():
                totals[head] = totals.get(head, np.zeros(1)) + posterior.astype(np.float64).sum(axis=0)
            yield example
    except DamagedExample as error:
        raise Fault(f"{side.shard}: {error}") from None
    for head, total in totals.items():
        if not np.allclose(total, side.posterior_sums.get(head, np.nan), rtol=1e-9, atol=1e-9):
            raise Fault(f"{side.shard}: the side file's sum of {head} is not that of its clips")


def _check_tar(folder: Path, side: SideFile) -> None:
    tar = folder / f"{side.shard}.tar"
    if tar.stat().st_size != side.tar_bytes:
        raise Fault(f"{tar} has {tar.stat().st_size} bytes, its side file says {side.tar_bytes}: make it again")
    if (digest := sha256_of(tar)) != side.tar_sha256:
        raise Fault(f"{tar} has sha256 {digest}, its side file says {side.tar_sha256}: make it again")
    try:
        index = index_members(tar)
    except (ValueError, tarfile.TarError) as error:
        raise Fault(f"{tar} is not a shard: {error}") from None
    columns = {
        key: {name: column[clip] for name, column in side.members.items() if column[clip] is not None}
        for clip, key in enumerate(side.keys)
    }
    if index != columns:
        raise Fault(f"{tar}: its side file's index is not that of its members")
    for extension, places in side.members.items():
        if None in places:
            raise Fault(f"{tar}: {side.keys[places.index(None)]} has no {extension}, other clips have: make it again")


def _check_example(where: str, example: Example, manifest: Manifest) -> None:
    clip = manifest.clip
    if example.posteriors.keys() != manifest.teachers.keys():
        raise Fault(f"{where} has heads {sorted(example.posteriors)}, the manifest {sorted(manifest.teachers)}")
    windows, samples = _windows(example), len(example.waveform)
    whole = samples == windows * clip.window_samples and windows <= clip.windows
    if not whole and not (windows == 1 and samples < clip.window_samples):
        raise Fault(f"{where}: {samples} samples for {windows} windows of {clip.window_samples}")
    for head, posterior in example.posteriors.items():
        classes = len(manifest.teachers[head].classes)
        if posterior.shape[1] != classes:
            raise Fault(f"{where}: {head} has {posterior.shape[1]} classes, the manifest {classes}")
        sums = posterior.astype(np.float64).sum(axis=1)
        if not (np.isfinite(sums).all() and (posterior >= 0).all() and np.abs(sums - 1).max() < ROW_SUM_TOLERANCE):
            raise Fault(f"{where}: {head} is no posterior, its rows sum to {sums.tolist()}")
    if len(example.meta.frame_got) != windows * clip.frames_per_window:
        raise Fault(f"{where}: {len(example.meta.frame_got)} frames for {windows} windows")


def _check_checksums(where: str, example: Example, side: SideFile, clip: int, audio: str) -> None:
    arrays = {audio: checksum(example.waveform)}
    arrays |= {f"{head}.npy": checksum(posterior) for head, posterior in example.posteriors.items()}
    for name, found in arrays.items():
        if (recorded := side.checksums.get(name, [-1] * (clip + 1))[clip]) != found:
            raise Fault(f"{where}.{name} has checksum {found}, the side file says {recorded}")


def _check_columns(where: str, example: Example, side: SideFile, clip: int) -> None:
    """The sound's levels and what is given of the clip: the same in its json and in the side file."""
    meta, measured = example.meta, levels(example.waveform)
    columns: dict[str, Sequence[Any]] = {"peak_db": side.peak_db, "rms_db": side.rms_db, "given": side.given}
    for name, column in columns.items():
        if not column or column[clip] != getattr(meta, name):
            found = column[clip] if column else "nothing"
            raise Fault(f"{where}: the side file says {name} {found}, its json {getattr(meta, name)}")
    for name, level, true in zip(columns, (meta.peak_db, meta.rms_db), measured, strict=False):
        if abs(level - true) > LEVEL_TOLERANCE:
            raise Fault(f"{where}: its json says {name} {level}, its sound has {true}")


def _check_frames(where: str, example: Example, *, kept: bool) -> None:
    """The strip is there where frames are kept, and is as wide as its frames, which are square."""
    if bool(example.frames) != kept:
        raise Fault(f"{where} has {len(example.frames)} bytes of frames, the manifest says keep_frames={kept}")
    if not kept:
        return
    count = len(example.meta.frame_got)
    try:
        with Image.open(io.BytesIO(example.frames), formats=["JPEG"]) as strip:
            width, height = strip.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Fault(f"{where}: its frames cannot be read: {error}") from None
    if width != count * height:
        raise Fault(f"{where}: its frames are {width} x {height} pixels, which are not {count} squares side by side")


def _check_teacher_set(folder: Path, teachers: Path) -> None:
    """Another set's shards must hold the same keys in the same order, each of them whole."""
    Manifest.load(teachers)
    for side in finished(teachers):
        if not (folder / f"{side.shard}.json").exists():
            raise Fault(f"{teachers / side.shard}.tar belongs to no shard of {folder}")
        _check_tar(teachers, side)
        base = SideFile.load(folder / f"{side.shard}.json")
        if (side.keys, side.windows) != (base.keys, base.windows):
            raise Fault(
                f"{teachers / side.shard}.tar does not hold the clips of {folder / side.shard}.tar: relabel again"
            )


def _windows(example: Example) -> int:
    return len(next(iter(example.posteriors.values())))
