"""Frames of a sound and the mel bands of their spectra: of the spectrogram on a page, and of MFCC.

Frames are 1024 samples, half overlapping, as is common at 22,050 Hz.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FRAME_SAMPLES = 1024
HOP_SAMPLES = 512


def frames_of(waveform: NDArray[np.int16]) -> NDArray[np.int16]:
    """(frames, FRAME_SAMPLES), overlapping; an incomplete one at the end is left out."""
    padded = np.pad(waveform, (0, max(0, FRAME_SAMPLES - len(waveform))))
    return sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]


def mel_filters(sample_rate: int, bands: int) -> NDArray[np.float64]:
    """(bands, FRAME_SAMPLES // 2 + 1): triangles, evenly spaced on the mel scale 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)[:, None]  # Hz
    bins = np.fft.rfftfreq(FRAME_SAMPLES, 1 / sample_rate)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles
