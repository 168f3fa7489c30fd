"""The picture: tones lie in their mel band at their level, what happens at a time in its column."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.inference.listen.spectrogram import BANDS, DECIBELS, MOST_COLUMNS, spectrogram

RATE = 22_050


def mel(hertz: float) -> float:
    return 1127 * np.log1p(hertz / 700)


@pytest.mark.parametrize("hertz", [440.0, 1_000.0, 5_000.0])
@pytest.mark.parametrize("decibels", [-30.0, -60.0])
def test_a_tone_is_in_its_band_at_its_level(hertz: float, decibels: float) -> None:
    sine = 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
    levels, _ = spectrogram(np.round(32_767 * sine).astype(np.int16), RATE)
    middle = levels[len(levels) // 2].astype(float)
    centre = mel(hertz) / mel(RATE / 2) * (BANDS + 1) - 1  # band i is centred at i + 1 of BANDS + 1 even steps
    assert abs(middle.argmax() - centre) < 0.6
    found = DECIBELS[0] + middle.max() / 255 * (DECIBELS[1] - DECIBELS[0])
    assert abs(found - decibels) < 4  # a tone between two bands is half in each, and the window spreads it


def test_silence_is_black_and_the_shortest_sound_has_a_column() -> None:
    assert not spectrogram(np.zeros(RATE, np.int16), RATE)[0].any()
    assert spectrogram(np.ones(1, np.int16), RATE)[0].shape == (1, BANDS)


@pytest.mark.parametrize("seconds", [1.0, 20.0, 200.0])
def test_a_click_is_in_its_column(seconds: float) -> None:
    sound = np.zeros(round(seconds * RATE), np.int16)
    sound[round(0.7 * len(sound))] = 32_767
    levels, step = spectrogram(sound, RATE)
    assert len(levels) <= MOST_COLUMNS and abs(len(levels) * step - seconds) < 2 * step
    columns = np.flatnonzero(levels.any(axis=1)) * step
    assert len(columns) and (abs(columns - 0.7 * seconds) <= step + 1024 / RATE).all()
