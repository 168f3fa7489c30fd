"""`make tag`: the names of what stands out in each sound, over time."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from evaluate.inference.inputs import find_sounds, log, progress, stream_sound
from evaluate.inference.posteriors import CLIPS, SoundPosteriors, posteriors_of_each
from evaluate.inference.tag.formats import FORMATS
from evaluate.inference.tag.tags import Baseline, TagReport, tags_of
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from shards.files import write_whole
from shards.media.file import UnreadableMedia
from train.device.device import require_device
from train.device.threads import available_threads, side_by_side


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
    """Tag every file, then print or write the tags and draw them. Raises UserError where some could not be read."""
    paths = find_sounds(settings.files)
    if settings.timeline is not None and len(paths) > 1:
        raise UserError(f"timeline={settings.timeline} shows one sound, {len(paths)} are given: give one")
    require_device(settings.device)
    model = EvaluatedModel.load(settings.checkpoint, settings.device, heads=True)
    sounds = dict(_posteriors(model, paths))
    if sounds:
        _write(settings, model, sounds)
    if failed := len(paths) - len(sounds):
        raise UserError(f"{failed} of {len(paths)} files could not be read, as said above")


def _posteriors(model: EvaluatedModel, paths: Sequence[Path]) -> Iterator[tuple[Path, SoundPosteriors]]:
    """Of every file that can be read; of the others a line on stderr each."""
    sample_rate = model.checkpoint.clip.sample_rate
    size = min(CLIPS, math.ceil(len(paths) / available_threads()))  # of sounds heard together in a thread
    groups = [paths[at : at + size] for at in range(0, len(paths), size)]

    def hear(group: Sequence[Path]) -> list[SoundPosteriors | UnreadableMedia]:
        return posteriors_of_each(model, [stream_sound(path, sample_rate) for path in group])

    found = chain.from_iterable(side_by_side(hear, groups))
    for path, sound in zip(paths, progress(found, "tagging", len(paths)), strict=True):
        if isinstance(sound, UnreadableMedia):
            log(f"{path} cannot be read ({sound})")
        else:
            yield path, sound


def _write(settings: TagSettings, model: EvaluatedModel, sounds: dict[Path, SoundPosteriors]) -> None:
    """The tags in the format asked for, to `out` or the screen, and the picture where one is asked for."""
    base = _baseline(settings, model, sounds)
    classes = model.checkpoint.classes
    files = {
        path: tags_of(sound, base, classes, top=settings.top, over_time=settings.over_time)
        for path, sound in sounds.items()
    }
    checkpoint = {"file": str(model.path), "sha256": model.sha256, "student": model.checkpoint.spec.name}
    report = TagReport({**checkpoint, "story": model.provenance}, base.origin, files)
    assert settings.format is not None  # __post_init__ has chosen one
    text = FORMATS[settings.format](report).encode(errors="surrogateescape")
    if settings.out is None:
        sys.stdout.buffer.write(text)  # bytes, since a file's name need not be text
        sys.stdout.flush()
    else:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(settings.out, text)
    if settings.timeline is not None:
        from evaluate.inference.tag.timeline import timeline  # matplotlib takes 0.3 s to import

        ((path, sound),) = sounds.items()
        settings.timeline.parent.mkdir(parents=True, exist_ok=True)
        write_whole(settings.timeline, timeline(path, sound, base, classes))


def _baseline(settings: TagSettings, model: EvaluatedModel, sounds: dict[Path, SoundPosteriors]) -> Baseline:
    """What lifts are over: base= where it is given, else the checkpoint's training mean, else the sounds themselves."""
    if settings.base is not None:
        others = [sound for _, sound in _posteriors(model, find_sounds(settings.base))]
        where = ", ".join(map(str, settings.base))
        if not others:
            raise UserError(f"no sound of base={where} could be read, as said above")
        return Baseline.of(others, f"the mean over base={where} ({_count(others)})")
    trained = Baseline.trained(model.checkpoint)
    return trained or Baseline.of(list(sounds.values()), f"the mean over what was given ({_count(list(sounds))})")


def _count(sounds: Sequence[object]) -> str:
    return f"{len(sounds)} sounds" if len(sounds) > 1 else "1 sound"
