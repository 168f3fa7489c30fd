"""How loud a clip is: the peak and the RMS of its samples against full scale."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Of samples that are all zero: a number, as a table of clips wants one, below that of any other sound. A single 1 in
# an hour at 192 kHz has an RMS of -178.7 dB; half a step of int16, -96.33 dB, would be above many that are not silent.
SILENCE = -200.0


def levels(waveform: NDArray[np.int16]) -> tuple[float, float]:
    """Peak and RMS of int16 (samples,) in dBFS, to 0.01 dB: 0 is -32768, and the RMS of samples that all are it."""
    # Whole numbers: the sum is exact, on any machine.
    energy = int(np.square(waveform, dtype=np.int32).sum(dtype=np.int64))
    if not energy:
        return SILENCE, SILENCE
    peak = 20 * math.log10(max(int(waveform.max()), -int(waveform.min())) / 2**15)
    rms = 10 * math.log10(energy / len(waveform) / 2**30)
    return round(peak, 2) + 0.0, round(rms, 2) + 0.0  # + 0.0: no negative zero
