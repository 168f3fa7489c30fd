"""Mel-frequency cepstral coefficients and their statistics: the hand-crafted features that Table 4 compares with.

Piczak (2015, the paper's [28]) describes a recording by mean and standard deviation of its frames' coefficients and
zero-crossing rate. Frames are 1024 samples, half overlapping, as is common at 22,050 Hz.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.features.windows import Windows

FRAME_SAMPLES = 1024
HOP_SAMPLES = 512
BANDS = 40
COEFFICIENTS = 13
QUIETEST = 1e-10  # power below which a band counts as silent: 16-bit rounding noise is near it


def mfcc(waveform: NDArray[np.int16], sample_rate: int) -> NDArray[np.float64]:
    """int16 (samples,) -> (frames, COEFFICIENTS); a sound shorter than a frame is followed by silence."""
    frames = frames_of(waveform) / 32768.0 * np.hanning(FRAME_SAMPLES)
    power = np.abs(np.fft.rfft(frames)) ** 2 / FRAME_SAMPLES
    bands = np.log(np.maximum(power @ mel_filters(sample_rate).T, QUIETEST))  # (frames, bands)
    coefficients: NDArray[np.float64] = bands @ cosines().T
    return coefficients


def frames_of(waveform: NDArray[np.int16]) -> NDArray[np.int16]:
    """(frames, FRAME_SAMPLES), overlapping; an incomplete one at the end is left out."""
    padded = np.pad(waveform, (0, max(0, FRAME_SAMPLES - len(waveform))))
    return sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]


def mel_filters(sample_rate: int, bands: int = BANDS) -> NDArray[np.float64]:
    """(bands, FRAME_SAMPLES // 2 + 1): triangles, evenly spaced on the mel scale 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)[:, None]  # Hz
    bins = np.fft.rfftfreq(FRAME_SAMPLES, 1 / sample_rate)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles


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
    crossings = (np.diff(np.signbit(frames_of(waveform)), axis=1) != 0).mean(axis=1, keepdims=True)
    parts = [coefficients, differences, crossings]
    return np.concatenate([statistic for part in parts for statistic in (part.mean(0), part.std(0))]).astype(np.float32)


def describe(recordings: Recordings) -> Windows:
    """One vector per recording, which is not repeated: (recordings, dimensions)."""
    vectors = np.stack([statistics(waveform, recordings.sample_rate) for waveform in recordings.waveforms])
    return Windows(vectors, np.arange(len(vectors)))
