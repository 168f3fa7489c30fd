"""A sound as a program holds it, an array of any rate, as files are read: mono int16 at the network's rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import av
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from shards.cli.words import amount
from shards.errors import UserError
from shards.media.resample import BATCH, RATES, ChannelStats, Resampler

Waveform: TypeAlias = "ArrayLike | Tensor"

# Of float samples: decoders of lossy formats overshoot 1 by less, and integers turned float are far above.
LOUDEST = 2.0
MOST_CHANNELS = 32
FORMATS = {"int16": "s16p", "float32": "fltp", "float64": "dblp"}  # FFmpeg's names


def resampled(waveform: Waveform, sample_rate: float, wanted: int) -> Iterator[NDArray[np.int16]]:
    """Pieces of int16 (samples,) at `wanted` Hz of a waveform (samples,) or (channels, samples), of any length.

    By the resampler and the downmix that files go through: channels are mixed to their mean, or where they cancel the
    first is taken; floats above 1 are clipped. Raises UserError for what cannot be such a sound.
    """
    sound, rate = checked_sound(waveform), checked_rate(sample_rate)
    return _pieces(sound, rate, wanted)


def checked_sound(waveform: Waveform) -> NDArray[Any]:
    """int16, float32 or float64 (channels, samples). Raises UserError for what cannot be right."""
    sound = _as_array(waveform)
    if sound.dtype.kind == "f":
        sound = sound.astype(np.float64 if sound.dtype.itemsize > 4 else np.float32, copy=False)
    elif sound.dtype.kind == "i" and sound.dtype.itemsize == 2:
        sound = sound.astype(np.int16, copy=False)  # of this machine's byte order
    else:
        full = f": divide by {2 ** (8 * sound.dtype.itemsize - 1)}" if sound.dtype.kind == "i" else ""
        raise UserError(f"a waveform of {sound.dtype} samples: give int16, or float in [-1, 1]{full}")
    if sound.ndim not in (1, 2):
        raise UserError(f"a waveform of shape {sound.shape}: give (samples,) or (channels, samples), one sound a call")
    if not sound.size:
        raise UserError(f"a waveform of shape {sound.shape} has no samples")
    sound = np.atleast_2d(sound)
    if len(sound) > sound.shape[1]:
        raise UserError(f"a waveform of shape {sound.shape} has its channels last: transpose it, (channels, samples)")
    if len(sound) > MOST_CHANNELS:
        raise UserError(f"a waveform of {len(sound)} channels, at most {MOST_CHANNELS} are taken: one sound a call")
    if sound.dtype.kind == "f":
        _check_range(sound)
    return sound


def checked_rate(sample_rate: float) -> int:
    """Raises UserError for what is no number of samples a second."""
    try:
        rate = int(sample_rate)
        right = rate == sample_rate and RATES[0] <= rate <= RATES[1] and not isinstance(sample_rate, str)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise UserError(f"sample_rate={sample_rate!r}: give the waveform's samples a second, {RATES[0]} to {RATES[1]}")
    return rate


def frames_of(sound: NDArray[Any], sample_rate: int) -> Iterator[av.AudioFrame]:
    """Frames of at most BATCH samples of a checked sound (channels, samples)."""
    channels, samples = sound.shape
    layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    for start in range(0, samples, BATCH):
        planes = np.ascontiguousarray(sound[:, start : start + BATCH])
        frame = av.AudioFrame.from_ndarray(planes, format=FORMATS[sound.dtype.name], layout=layout)
        frame.sample_rate = sample_rate
        yield frame


def _as_array(waveform: Waveform) -> NDArray[Any]:
    try:
        if isinstance(waveform, Tensor):
            waveform = waveform.detach().cpu()
            waveform = (waveform.float() if waveform.dtype == torch.bfloat16 else waveform).numpy()
        return np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"this is no array of samples: {' '.join(str(error).split())}") from None


def _check_range(sound: NDArray[Any]) -> None:
    peak = float(np.maximum(sound.max(), -sound.min()))
    if not math.isfinite(peak):
        bad = int((~np.isfinite(sound)).sum())
        raise UserError(f"{bad} of the waveform's {sound.size} samples are NaN or infinite: mend or cut them first")
    if peak > LOUDEST:
        raise UserError(
            f"float samples up to {peak:g}, full scale is 1: divide by 32768 what was int16, or give the int16 itself"
        )


def _pieces(sound: NDArray[Any], sample_rate: int, wanted: int) -> Iterator[NDArray[np.int16]]:
    stats = ChannelStats()
    if len(sound) > 1:
        for frame in frames_of(sound, sample_rate):
            stats.add(frame, frame.format.packed.name, len(sound))
            if stats.measured:
                break
    first = next(frames_of(sound[:, :1], sample_rate))  # says what kind of frames will come
    resampler, given = Resampler(first, 0.0, wanted, ChannelStats(), left=stats.cancels), 0
    for frame in frames_of(sound, sample_rate):
        for piece in resampler.push(frame):
            given += len(piece)
            yield piece
    rest = resampler.finish()
    yield from rest
    if not given + sum(map(len, rest)):
        raise UserError(
            f"{amount(sound.shape[1], 'sample')} at {sample_rate} Hz: too short to be resampled to {wanted} Hz"
        )
