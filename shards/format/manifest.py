"""The manifest of a shard folder: what every shard in it has in common. Written first, equal on every later run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.errors import UserError, require_format
from shards.files import write_whole
from shards.format.clip import ClipSpec

FORMAT = 3
NAME = "manifest.json"


@dataclass(frozen=True)
class TextEmbedding:
    """The classes of an image-text network as it reads them: of each, the mean over the templates.

    Made once, by the run that writes the manifest: computed anew elsewhere, it would differ in its last digits.
    """

    templates: tuple[str, ...]
    sha256: str = ""  # of the values; empty until they are made
    values: str = ""  # base64 of float16, little-endian, (classes, width)


@dataclass(frozen=True)
class TeacherCard:
    """One teacher as its posteriors need it to be known: network, exact weights, input transform, class names."""

    architecture: str
    weights: str  # name of the release or of the file, without its folder
    weights_sha256: str
    transform: dict[str, Any]  # resize, crop, channels, mean, std, interpolation
    classes: tuple[str, ...]
    text: TextEmbedding | None = None  # where the network is told its classes in words

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> TeacherCard:
        """The card of what `asdict` made of one, and JSON of that."""
        text = fields.get("text")
        if text is not None:
            text = TextEmbedding(**{**text, "templates": tuple(text["templates"])})
        return cls(**{**fields, "classes": tuple(fields["classes"]), "text": text})

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError(f"teacher {self.architecture} has no class names")


@dataclass(frozen=True)
class Manifest:
    """Everything that two runs into one folder must agree on. `teachers` maps a head (objects, scenes) to its card."""

    clip: ClipSpec
    teacher_set: str
    teachers: dict[str, TeacherCard]
    precision: str  # float32 | bfloat16: what the teachers computed in
    audio: str  # wav | flac
    resampler: str
    sampling: str  # exact | keyframe | cheapest within 0.5 s
    keep_frames: bool
    validation_share: float
    seed: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision is float32 or bfloat16, not {self.precision!r}")

    def save(self, folder: Path) -> None:
        fields = asdict(self, dict_factory=lambda pairs: {name: value for name, value in pairs if value is not None})
        write_whole(folder / NAME, json.dumps(fields, indent=1, sort_keys=True).encode())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Raises UserError where there is no manifest, or one of another format."""
        path = folder / NAME
        if not path.is_file():
            raise UserError(f"{folder} holds no {NAME}: make shards by `make teacher-shards videos=... shards=...`")
        try:
            fields = json.loads(path.read_bytes())
            require_format(path, fields.get("format"), FORMAT)
            cards = {head: TeacherCard.from_fields(card) for head, card in fields.pop("teachers").items()}
            return cls(**{**fields, "clip": ClipSpec(**fields["clip"])}, teachers=cards)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is not a manifest of format {FORMAT}: {error}") from None
