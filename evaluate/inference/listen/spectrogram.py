"""A sound as a picture of bytes: its power in mel bands over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.probe.features.mfcc import FRAME_SAMPLES, HOP_SAMPLES, frames_of, mel_filters

BANDS = 64
MOST_COLUMNS = 1000  # of a picture; of a longer sound each shows the loudest frame of a stretch
DECIBELS = (-90.0, -20.0)  # of a full-scale sine's power in its band: what 0 and 255 stand for
FRAMES_AT_A_TIME = 2048


def spectrogram(waveform: NDArray[np.int16], sample_rate: int) -> tuple[NDArray[np.uint8], float]:
    """int16 (samples,) -> levels (columns, BANDS), low bands first, and the seconds from one column to the next."""
    frames, filters = frames_of(waveform), mel_filters(sample_rate, BANDS).T
    window = np.hanning(FRAME_SAMPLES) / 32768
    per_column = -(-len(frames) // MOST_COLUMNS)
    power = np.concatenate(
        [
            np.abs(np.fft.rfft(frames[at : at + FRAMES_AT_A_TIME] * window)) ** 2 @ filters
            for at in range(0, len(frames), FRAMES_AT_A_TIME)
        ]
    )
    loudest = np.maximum.reduceat(power, np.arange(0, len(power), per_column))
    full = (window.sum() * 32768 / 2) ** 2
    decibels = 10 * np.log10(np.maximum(loudest / full, 1e-12))
    levels = np.clip((decibels - DECIBELS[0]) / (DECIBELS[1] - DECIBELS[0]), 0, 1)
    return np.round(255 * levels).astype(np.uint8), per_column * HOP_SAMPLES / sample_rate
