"""`make tag`: sounds in, names over time out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluate.inference.inputs import find_sounds, progress, say
from evaluate.inference.posteriors import SoundPosteriors, hear
from evaluate.inference.tag.formats import FORMATS
from evaluate.inference.tag.tags import Baseline, Findings, find
from evaluate.inference.tag.timeline import timeline
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from shards.files import sha256_of, write_whole
from shards.media.file import UnreadableMedia
from shards.media.waveform import stream_waveform
from train.checkpoint.checkpoint import Checkpoint, load_student
from train.device.device import require_device
from train.model.student import Student


@dataclass
class TagSettings:
    """conf/tag.yaml. Heads, class names, sample rate and clip length come with the checkpoint."""

    files: list[Path] = field(metadata={"example": "/my/sounds"})
    checkpoint: Path = field(metadata={"example": "data/published/soundnet8.pt"})
    top: int = 5
    over_time: bool = True
    base: list[Path] | None = None
    format: Literal["table", "json", "csv"] | None = None
    out: Path | None = None
    timeline: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top is at least 1, not {self.top}")
        if self.format is None:
            ending = "" if self.out is None else self.out.suffix[1:].lower()
            self.format = "json" if ending == "json" else "csv" if ending == "csv" else "table"


def run(settings: TagSettings) -> None:
    """Hear every file, tell what stands out in each. Raises UserError where some could not be read."""
    paths = find_sounds(settings.files)
    if settings.timeline is not None and len(paths) > 1:
        raise UserError(f"timeline={settings.timeline} shows one sound, {len(paths)} are given: give one")
    require_device(settings.device)
    listener = Listener(*load_student(settings.checkpoint, settings.device), settings.device)
    heard = dict(listener.hear_all(paths))
    if heard:
        tell(settings, listener, heard)
    if failed := len(paths) - len(heard):
        raise UserError(f"{failed} of {len(paths)} files could not be read, as said above")


def tell(settings: TagSettings, listener: Listener, heard: dict[Path, SoundPosteriors]) -> None:
    """Write or print what was found, and draw it."""
    base = base_for(settings, listener, heard)
    classes = {head: card.classes for head, card in listener.checkpoint.teachers.items()}
    subject = EvaluatedModel(settings.checkpoint, listener.student, listener.checkpoint, sha256_of(settings.checkpoint))
    record = {"file": str(subject.path), "sha256": subject.sha256, "student": subject.network.spec.name}
    record["story"] = subject.story
    found = [
        find(path, sound, base, classes, top=settings.top, over_time=settings.over_time)
        for path, sound in heard.items()
    ]
    assert settings.format is not None  # __post_init__ has chosen one
    text = FORMATS[settings.format](Findings(record, base.origin, found)).encode(errors="surrogateescape")
    if settings.out is None:
        sys.stdout.buffer.write(text)  # bytes, since a file's name need not be text
        sys.stdout.flush()
    else:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(settings.out, text)
    if settings.timeline is not None:
        ((path, sound),) = heard.items()
        settings.timeline.parent.mkdir(parents=True, exist_ok=True)
        write_whole(settings.timeline, timeline(path, sound, base, classes))


def base_for(settings: TagSettings, listener: Listener, heard: dict[Path, SoundPosteriors]) -> Baseline:
    """base= where it is given, else the checkpoint's training mean, else the sounds themselves."""
    if settings.base is not None:
        others = [sound for _, sound in listener.hear_all(find_sounds(settings.base))]
        where = ", ".join(map(str, settings.base))
        if not others:
            raise UserError(f"no sound of base={where} could be read, as said above")
        return Baseline.of(others, f"the mean over base={where} ({_count(others)})")
    trained = Baseline.trained(listener.checkpoint)
    return trained or Baseline.of(list(heard.values()), f"the mean over what was given ({_count(list(heard))})")


@dataclass(frozen=True)
class Listener:
    """A student at work on files."""

    student: Student
    checkpoint: Checkpoint
    device: str

    def hear_all(self, paths: Sequence[Path]) -> Iterator[tuple[Path, SoundPosteriors]]:
        """Every file that can be read; of the others a line on stderr each."""
        for path in progress(paths, "hearing"):
            try:
                yield path, self.hear(path)
            except UnreadableMedia as error:
                say(f"{path} cannot be read ({error})")

    def hear(self, path: Path) -> SoundPosteriors:
        """Raises UnreadableMedia."""
        clip = self.checkpoint.clip
        pieces = stream_waveform(path, clip.sample_rate, lambda line: say(f"{path}: {line}"))
        return hear(self.student, clip, pieces, self.device)


def _count(sounds: Sequence[object]) -> str:
    return f"{len(sounds)} sounds" if len(sounds) > 1 else "1 sound"
