"""Names as a sound goes on: every `hop` seconds those of its newest part, in memory that does not grow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from evaluate.inference.array import frames_of
from evaluate.inference.inputs import log
from evaluate.inference.posteriors import step_posteriors
from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.tags import SHORTEST, Span, span_of
from evaluate.model import EvaluatedModel
from shards.cli.words import amount
from shards.errors import UserError
from shards.media.resample import ChannelStats, Resampler
from train.device.threads import side_by_side

GATHERED = 0.05  # seconds of a live sound that are resampled at once, which its names come later by
CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"\x1aE\xdf\xa3": "Matroska"}


def tag_stream(
    model: EvaluatedModel,
    base: Baseline,
    pieces: Iterable[NDArray[np.int16]],
    *,
    hop: float,
    top: int,
    threads: int | None = None,
) -> Iterator[Span]:
    """The names of the last step of a clip that ends at each `hop` seconds, and at the end, of int16 (samples,).

    With one of `threads` each is given before the next piece is read. Raises what the pieces raise.
    """
    clip = model.checkpoint.clip
    ends = windows(pieces, clip.samples, hop * clip.sample_rate, least=SHORTEST * clip.sample_rate)
    yield from side_by_side(lambda window: newest(model, base, window[1], window[0], top=top), ends, threads)


def newest(model: EvaluatedModel, base: Baseline, held: NDArray[np.int16], end: int, *, top: int) -> Span:
    """The names of the last step of a clip that ends `end` samples into a sound, `held` being the last up to there."""
    clip, part = model.checkpoint.clip, part_samples(model)
    posteriors = {head: each[0, -1] for head, each in step_posteriors(model, circled(held, clip.samples)).items()}
    begin, whole = max(0, end - part) / clip.sample_rate, end / clip.sample_rate
    peak = int(np.abs(held[-part:].astype(np.int32)).max())
    return span_of((begin, whole), posteriors, base, model.checkpoint.classes, top=top, peak=peak, seconds=whole)


def part_samples(model: EvaluatedModel) -> int:
    """What one step of a clip answers for."""
    samples = model.checkpoint.clip.samples
    return samples // model.checkpoint.spec.steps(samples)


def windows(
    pieces: Iterable[NDArray[np.int16]], samples: int, hop: float, least: float
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """(samples up to there, the last `samples` of them at most) at each multiple of `hop` samples, and at the end.

    Not at an end within `least` samples of the last one.
    """
    held, end, given = np.empty(0, np.int16), 0, 0
    for piece in pieces:
        while len(piece):
            until = round(hop * (given + 1))
            taken, piece = piece[: until - end], piece[until - end :]
            held, end = np.concatenate([held, taken])[-samples:], end + len(taken)
            if end == until:
                given += 1
                yield end, held
    if end and (not given or end - round(hop * given) >= least):
        yield end, held


def circled(held: NDArray[np.int16], samples: int) -> NDArray[np.int16]:
    """int16 (1, samples) whose end is the sound's: a shorter one is repeated before itself."""
    return np.resize(held[::-1], samples)[None, ::-1].copy()


def read_raw(stream: BinaryIO, rate: int, channels: int, wanted: int) -> Iterator[NDArray[np.int16]]:
    """Mono int16 (samples,) at `wanted` Hz of little-endian 16-bit samples, as they come. Raises UserError."""
    stats, resampler = ChannelStats(), None
    for frame in _frames(stream, rate, channels):
        resampler = resampler or Resampler(frame, 0.0, wanted, stats, gathered=GATHERED)
        before = stats.measured
        yield from resampler.push(frame)
        if stats.measured and not before and stats.cancels:
            log("the channels cancel, next to nothing is left of their mean: give one, ffmpeg -af 'pan=mono|c0=c0'")
    if resampler is None:
        raise UserError("no sound came on standard input")
    yield from resampler.finish()


def _frames(stream: BinaryIO, rate: int, channels: int) -> Iterator[av.AudioFrame]:
    rest, begun = b"", False
    while read := os.read(stream.fileno(), 2**16):
        rest += read
        if not begun and len(rest) >= 4:
            _require_raw(rest)
            begun = True
        whole = len(rest) - len(rest) % (2 * channels)
        if begun and whole:
            samples = np.frombuffer(rest[:whole], "<i2").astype(np.int16, copy=False)
            rest = rest[whole:]
            yield from frames_of(samples.reshape(-1, channels).T, rate)
    if rest:
        log(
            f"the last {amount(len(rest), 'byte is', many='bytes are')} no whole sample of "
            f"{amount(channels, 'channel')}, and left out"
        )


def _require_raw(begin: bytes) -> None:
    for magic, name in CONTAINERS.items():
        if begin.startswith(magic):
            raise UserError(
                f"standard input is a file ({name}), raw samples are wanted: ffmpeg -i - -f s16le -ac 1 - | ..."
            )
