"""Levels of sounds whose levels a formula gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shards.media.levels import SILENCE, levels


@pytest.mark.parametrize("amplitude", [16_384, 1_000, 200])
def test_a_sine(amplitude: int) -> None:
    """Whole periods: the peak is 20 log10 a, the RMS 20 log10(a / sqrt 2), up to the rounding to int16."""
    wave = np.rint(amplitude * np.sin(2 * np.pi * np.arange(44_100) / 100)).astype(np.int16)
    peak, rms = levels(wave)
    a = amplitude / 2**15
    assert peak == pytest.approx(20 * math.log10(a), abs=0.006)
    assert rms == pytest.approx(20 * math.log10(a / math.sqrt(2)), abs=0.011)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.full(1_000, -(2**15)), (0.0, 0.0)),
        (np.full(1_000, 2**15 - 1), (0.0, 0.0)),  # -0.0003 dB
        (np.tile([-(2**15), 2**15 - 1], 500), (0.0, 0.0)),
        (np.full(1_000, 2**14), (-6.02, -6.02)),
        (np.tile([0, 0, 0, -(2**14)], 250), (-6.02, -12.04)),
        (np.eye(1, 10_000)[0], (-90.31, -130.31)),  # one sample of 1: 40 dB below its peak
        (np.zeros(1_000), (SILENCE, SILENCE)),
    ],
)
def test_full_scale_steps_and_silence(samples: np.ndarray, expected: tuple[float, float]) -> None:
    found = levels(samples.astype(np.int16))
    assert found == expected
    assert "-0.0" not in map(str, found)


def test_silence_is_below_the_longest_sound_that_is_not() -> None:
    """One step in an hour at 192 kHz."""
    assert 20 * math.log10(1 / 2**15 / math.sqrt(3_600 * 192_000)) > SILENCE
