"""The manifest of a shard folder: what every shard in it has in common. Written first, equal on every later run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.format.clip import ClipSpec

FORMAT = 1
NAME = "manifest.json"


class ContractError(Exception):
    """Two artifacts disagree. The message holds both sides and what to do; raised before any expensive work."""


@dataclass(frozen=True)
class TeacherCard:
    """One teacher as its posteriors need it to be known: network, exact weights, input transform, class names."""

    architecture: str
    weights: str  # name of the release or of the file, without its folder
    weights_sha256: str
    transform: dict[str, Any]  # resize, crop, channels, mean, std
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError(f"teacher {self.architecture} has no class names")


@dataclass(frozen=True)
class Manifest:
    """Everything that two runs into one folder must agree on. `teachers` maps a head (objects, scenes) to its card."""

    clip: ClipSpec
    teacher_set: str
    teachers: dict[str, TeacherCard]
    audio: str  # wav | flac
    resampler: str
    sampling: str  # exact | tolerance | keyframe
    keep_frames: bool
    validation_share: float
    seed: int
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        write_whole(folder / NAME, json.dumps(asdict(self), indent=1, sort_keys=True).encode())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Raises ContractError where there is no manifest, or one of another format."""
        path = folder / NAME
        if not path.is_file():
            raise ContractError(f"{folder} holds no {NAME}: make shards by `make teacher-shards videos=... shards=...`")
        try:
            fields = json.loads(path.read_bytes())
            require_format(path, fields.get("format"), FORMAT)
            cards = {
                head: TeacherCard(**{**card, "classes": tuple(card["classes"])})
                for head, card in fields.pop("teachers").items()
            }
            return cls(**{**fields, "clip": ClipSpec(**fields["clip"])}, teachers=cards)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ContractError(f"{path} is not a manifest of format {FORMAT}: {error}") from None


def require_format(path: Path, found: object, known: int) -> None:
    """Raise ContractError for a file of a version that this program does not read."""
    if found != known:
        raise ContractError(
            f"{path} has format {found}, this program reads {known}: "
            "read it with the version that wrote it, or make the shards again"
        )


def require_same(wanted: Mapping[str, Any], found: Mapping[str, Any], where: str, remedy: str) -> None:
    """Raise ContractError naming the first few settings in which `found` (in `where`) differs from `wanted`."""
    differing = [
        f"{name}: {where} has {_brief(found.get(name))}, this run {_brief(wanted.get(name))}"
        for name in sorted({**wanted, **found})
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ContractError(f"{'; '.join(differing[:4])}. {remedy}")


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: a file that exists is whole."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 160 else f"{text[:157]}..."
