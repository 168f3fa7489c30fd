"""MFCC against scipy's own transforms, and against what is known of a pure tone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct
from scipy.signal import stft

from evaluate.figures.mel import FRAME_SAMPLES, HOP_SAMPLES, mel_filters
from evaluate.probe.features.mfcc import BANDS, COEFFICIENTS, cosines, mfcc, statistics

RATE = 22_050


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return np.round(8000 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.int16)


def test_cosines_are_the_orthonormal_dct() -> None:
    bands = np.random.default_rng(0).normal(size=BANDS)
    np.testing.assert_allclose(cosines() @ bands, dct(bands, norm="ortho")[:COEFFICIENTS], atol=1e-12)


@pytest.mark.parametrize("seconds", [0.5, 120.0])  # the second is computed in two parts
def test_coefficients_against_scipy(seconds: float) -> None:
    waveform = np.random.default_rng(0).integers(-8000, 8000, round(seconds * RATE)).astype(np.int16)
    window = np.hanning(FRAME_SAMPLES)
    _, _, spectrum = stft(
        waveform / 32768, RATE, window, FRAME_SAMPLES, FRAME_SAMPLES - HOP_SAMPLES, boundary=None, padded=False
    )
    power = np.abs(spectrum.T * window.sum()) ** 2 / FRAME_SAMPLES  # scipy divides by the window's sum
    expected = dct(np.log(np.maximum(power @ mel_filters(RATE, BANDS).T, 1e-10)), norm="ortho")[:, :COEFFICIENTS]
    np.testing.assert_allclose(mfcc(waveform, RATE), expected, atol=1e-8)


def test_filters_cover_the_spectrum_evenly() -> None:
    filters = mel_filters(RATE, BANDS)
    inner = filters.sum(axis=0)[filters[0].argmax() + 1 : filters[-1].argmax()]
    np.testing.assert_allclose(inner, 1.0, atol=1e-9)  # neighbours add up to 1


def test_the_loudest_band_of_a_tone_is_at_its_frequency() -> None:
    for frequency in (200.0, 1000.0, 5000.0):
        spectrum = np.abs(np.fft.rfft(tone(frequency)[:FRAME_SAMPLES] * np.hanning(FRAME_SAMPLES))) ** 2
        band = int((mel_filters(RATE, BANDS) @ spectrum).argmax())
        mel = 2595 * np.log10(1 + frequency / 700)
        spacing = 2595 * np.log10(1 + RATE / 2 / 700) / (BANDS + 1)
        assert abs(band + 1 - mel / spacing) < 1


def test_statistics_of_a_tone_know_its_zero_crossings() -> None:
    found = statistics(tone(1000.0), RATE)
    assert found.shape == (4 * COEFFICIENTS + 2,)
    assert found[-2] == pytest.approx(2 * 1000 / RATE, rel=0.01)


@pytest.mark.parametrize("samples", [1, 100, 1024, 1500])
def test_silence_and_short_sounds_are_finite(samples: int) -> None:
    assert np.isfinite(statistics(np.zeros(samples, np.int16), RATE)).all()
