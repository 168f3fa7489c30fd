"""Mel-frequency cepstral coefficients and their statistics: the hand-crafted features that Table 4 compares with.

Piczak (2015, the paper's [28]) describes a recording by mean and standard deviation of its frames' coefficients and
zero-crossing rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import Recordings
from evaluate.figures.mel import FRAME_SAMPLES, frames_of, mel_filters
from evaluate.probe.features.windows import Windows

FRAMES = 4096  # computed at a time, 95 s: an hour's at once would be 4 GB
BANDS = 40
COEFFICIENTS = 13
QUIETEST = 1e-10  # power below which a band counts as silent: 16-bit rounding noise is near it


def mfcc(waveform: NDArray[np.int16], sample_rate: int) -> NDArray[np.float64]:
    """int16 (samples,) -> (frames, COEFFICIENTS); a sound shorter than a frame is followed by silence."""
    return np.concatenate([_mfcc(frames, sample_rate) for frames in _in_parts(frames_of(waveform))])


def _mfcc(frames: NDArray[np.int16], sample_rate: int) -> NDArray[np.float64]:
    power = np.abs(np.fft.rfft(frames / 32768.0 * np.hanning(FRAME_SAMPLES))) ** 2 / FRAME_SAMPLES
    bands = np.log(np.maximum(power @ mel_filters(sample_rate, BANDS).T, QUIETEST))  # (frames, bands)
    coefficients: NDArray[np.float64] = bands @ cosines().T
    return coefficients


def _in_parts(frames: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    return [frames[first : first + FRAMES] for first in range(0, len(frames), FRAMES)]


def cosines() -> NDArray[np.float64]:
    """(COEFFICIENTS, BANDS): the orthonormal discrete cosine transform, type II."""
    rows = np.arange(COEFFICIENTS)[:, None] * (np.arange(BANDS) + 0.5) * np.pi / BANDS
    matrix: NDArray[np.float64] = np.sqrt(2 / BANDS) * np.cos(rows)
    matrix[0] /= np.sqrt(2)
    return matrix


def statistics(waveform: NDArray[np.int16], sample_rate: int) -> NDArray[np.float32]:
    """Mean and deviation over frames of coefficients, their differences and the zero-crossing rate, (dimensions,)."""
    coefficients = mfcc(waveform, sample_rate)
    differences = np.gradient(coefficients, axis=0) if len(coefficients) > 1 else np.zeros_like(coefficients)
    crossings = np.concatenate(
        [(np.diff(np.signbit(frames), axis=1) != 0).mean(axis=1) for frames in _in_parts(frames_of(waveform))]
    )[:, None]
    parts = [coefficients, differences, crossings]
    return np.concatenate([statistic for part in parts for statistic in (part.mean(0), part.std(0))]).astype(np.float32)


def describe(recordings: Recordings) -> Windows:
    """One vector per recording, which is not repeated: (recordings, dimensions)."""
    vectors = np.stack([statistics(waveform, recordings.sample_rate) for waveform in recordings.waveforms])
    return Windows(vectors, np.arange(len(vectors)))
