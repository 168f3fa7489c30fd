"""`make tag`: the names of what stands out in each sound, over time."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from evaluate.inference.array import MOST_CHANNELS
from evaluate.inference.inputs import find_sounds, log, progress, stream_sound
from evaluate.inference.posteriors import CLIPS, SoundPosteriors, posteriors_of_each
from evaluate.inference.tag.baseline import SUFFIX, Baseline
from evaluate.inference.tag.formats import FORMATS, as_line
from evaluate.inference.tag.live import read_raw, tag_stream
from evaluate.inference.tag.tags import TagReport, tags_of
from evaluate.model import EvaluatedModel
from shards.cli.words import amount
from shards.errors import UserError
from shards.files import writable_file, write_whole
from shards.media.rejects import UnreadableMedia
from shards.media.resample import RATES
from train.device.device import available_device
from train.device.threads import available_threads, side_by_side

STREAM = Path("-")  # raw samples on standard input
STREAM_HOP = 1.0  # seconds, of a stream where nothing is said
LEAST_HOP = 0.1


@dataclass
class TagSettings:
    """conf/tag.yaml. Heads, class names, sample rate and clip length come with the checkpoint."""

    # a sound or video, a folder of them, a .txt list of them, or - for standard input
    files: list[Path] = field(metadata={"example": "/my/sounds"})
    # a checkpoint of `make published`, `make train` or `make finetune`, or OWNER/NAME[@REVISION] on Hugging Face
    checkpoint: Path = Path("data/published/soundnet8.pt")
    top: int = 5  # names for each head, at most
    over_time: bool = True  # true: names of each part of a sound too; false: of each sound as a whole alone
    # sounds that lift compares with, or a .json of save_base; null: the checkpoint's mean, or else the files
    base: list[Path] | None = None
    # a .json file to write that mean into, for a later base=; without base= it is the mean of the files
    save_base: Path | None = None
    # print a line of JSON every so many seconds, about the newest part; null: never, and 1 on standard input
    hop: float | None = None
    # samples a second of raw 16-bit sound on standard input: ffmpeg -i ... -f s16le - | ... - rate=44100
    rate: int | None = None
    channels: int = 1  # channels of raw sound on standard input
    # table, json or csv; null: as the name of `out` ends, or else table
    format: Literal["table", "json", "csv"] | None = None
    out: Path | None = None  # a file for the names; null: the screen
    timeline: Path | None = None  # a PNG to draw one sound's names over time in
    device: str = "auto"  # cpu, cuda, or auto (the GPU where there is one)

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top is at least 1, not {self.top}")
        self._check_stream()
        if self.hop is not None:
            self._check_hop()
        elif self.format is None:
            ending = "" if self.out is None else self.out.suffix[1:].lower()
            self.format = "json" if ending == "json" else "csv" if ending == "csv" else "table"

    @property
    def is_stream(self) -> bool:
        """Whether the sound comes on standard input."""
        return STREAM in self.files

    def _check_stream(self) -> None:
        if not self.is_stream:
            if self.rate is not None or self.channels != 1:
                raise ValueError("rate= and channels= are of raw samples on standard input (-); files say their own")
            return
        if len(self.files) > 1:
            raise ValueError("standard input (-) is tagged alone, and other files with another command")
        if self.rate is None or not RATES[0] <= self.rate <= RATES[1] or not 1 <= self.channels <= MOST_CHANNELS:
            raise ValueError(
                "raw samples on standard input do not say their rate: give rate= (samples a second, 1000 to 1000000) "
                f"and channels= (1 to {MOST_CHANNELS}; 1 if not given), rate=44100 for ffmpeg -f s16le -ac 1 -ar 44100"
            )
        self.hop = STREAM_HOP if self.hop is None else self.hop

    def _check_hop(self) -> None:
        assert self.hop is not None
        if not LEAST_HOP <= self.hop < math.inf:
            raise ValueError(f"hop={self.hop:g}: the seconds from one line to the next, at least {LEAST_HOP:g}")
        if self.out or self.timeline or self.save_base or self.format in ("table", "csv"):
            raise ValueError("hop= prints a line of JSON at a time: leave out format=, out=, timeline= and save_base=")


def run(settings: TagSettings) -> None:
    """Tag every file, then print or write the tags and draw them. Raises UserError where some could not be read."""
    if settings.hop is not None:
        return run_live(settings, settings.hop)
    paths = find_sounds(settings.files)
    if settings.timeline is not None:
        if len(paths) > 1:
            raise UserError(f"timeline={settings.timeline} shows one sound, {len(paths)} are given: give one")
        import matplotlib  # noqa: F401 - an extra: missed here, and not after the work
    written = [path for path in (settings.out, settings.timeline, settings.save_base) if path is not None]
    for number, path in enumerate(written):
        if path in written[:number]:
            raise UserError(f"{path} is given twice to write to: out=, timeline= and save_base= are different files")
        writable_file(path, [*paths, settings.checkpoint])
    model = EvaluatedModel.load(settings.checkpoint, available_device(settings.device), heads=True)
    sounds = dict(_posteriors(model, paths))
    if sounds:
        _write(settings, model, sounds)
    if failed := len(paths) - len(sounds):
        raise UserError(f"{failed} of {amount(len(paths), 'file')} could not be read, as said above")


def run_live(settings: TagSettings, hop: float) -> None:
    """A line of JSON every `hop` seconds of each sound, as soon as it is known. Raises as `run`."""
    paths = [STREAM] if settings.is_stream else find_sounds(settings.files)
    if settings.is_stream and sys.stdin.isatty():
        raise UserError(
            "standard input is a terminal, which brings no sound. Pipe samples in: ffmpeg -i a.mp3 -f s16le -ac 1 "
            "-ar 44100 - | ... - rate=44100"
        )
    model = EvaluatedModel.load(settings.checkpoint, available_device(settings.device), heads=True)
    base = required_base(settings.base, model)
    failed, sample_rate = 0, model.checkpoint.clip.sample_rate
    for path in paths:
        if settings.rate is not None:
            pieces = read_raw(sys.stdin.buffer, settings.rate, settings.channels, sample_rate)
        else:
            pieces = stream_sound(path, sample_rate)
        threads = 1 if settings.is_stream else None  # of files, those ahead are there already
        try:
            for span in tag_stream(model, base, pieces, hop=hop, top=settings.top, threads=threads):
                sys.stdout.buffer.write(as_line(path, span, base.origin).encode())
                sys.stdout.flush()
        except UnreadableMedia as error:
            failed += 1
            log(f"{path} cannot be read ({error})")
    if failed:
        raise UserError(f"{failed} of {amount(len(paths), 'file')} could not be read, as said above")


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
    if settings.save_base is not None:
        base.save(settings.save_base, model.checkpoint)
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
        write_whole(settings.out, text)
    if settings.timeline is not None:
        from evaluate.inference.tag.timeline import timeline  # matplotlib takes 0.3 s to import

        ((path, sound),) = sounds.items()
        write_whole(settings.timeline, timeline(path, sound, base, classes))


def _baseline(settings: TagSettings, model: EvaluatedModel, sounds: dict[Path, SoundPosteriors]) -> Baseline:
    """What lifts are over: base= where it is given, else what the checkpoint has, else the sounds themselves."""
    base = _given_base(settings.base, model) or Baseline.known(model.checkpoint)
    if base is None or (settings.save_base is not None and settings.base is None):
        given = "what was given" if settings.save_base is None else _listed(settings.files)
        base = Baseline.of(list(sounds.values()), f"{given} ({amount(len(sounds), 'sound')})")
    return base


def required_base(given: Sequence[Path] | None, model: EvaluatedModel) -> Baseline:
    """base=, or what the checkpoint has. Raises UserError where there is neither: a stream has no mean of its own."""
    base = _given_base(given, model) or Baseline.known(model.checkpoint)
    if base is None:
        raise UserError(f"{model.path} holds no mean posterior, which lift compares with: give base=<sounds of yours>")
    return base


def _given_base(given: Sequence[Path] | None, model: EvaluatedModel) -> Baseline | None:
    """base=: the mean over sounds, or a file of save_base=."""
    if given is None:
        return None
    if [path.suffix for path in given] == [SUFFIX]:
        return Baseline.load(given[0], model.checkpoint)
    others = [sound for _, sound in _posteriors(model, find_sounds(given))]
    if not others:
        raise UserError(f"no sound of base={_listed(given)} could be read, as said above")
    return Baseline.of(others, f"base={_listed(given)} ({amount(len(others), 'sound')})")


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path).encode(errors="replace").decode() for path in paths)
