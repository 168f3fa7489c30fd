"""An array of any kind is the sound that a file of it would be; what cannot be a sound is one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from evaluate.inference.array import resampled
from shards.errors import UserError
from shards.media.waveform import read_waveform

RATE = 22_050


def noise(channels: int, seconds: float, rate: int) -> NDArray[np.int16]:
    """(channels, samples) up to 2 kHz, which every resampler keeps."""
    generator = np.random.default_rng(channels)
    slow = generator.uniform(-0.5, 0.5, (round(seconds * 4_000), channels))
    return np.round(soxr.resample(slow, 4_000, rate) * 16_384).astype(np.int16).T


def heard(waveform: Any, rate: float, wanted: int = RATE) -> NDArray[np.int16]:
    return np.concatenate(list(resampled(waveform, rate, wanted)))


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_an_array_is_read_as_a_file_of_it(tmp_path: Path, channels: int, rate: int) -> None:
    samples = noise(channels, 2.3, rate)
    soundfile.write(tmp_path / "a.wav", samples.T, rate)
    expected = read_waveform(tmp_path / "a.wav", RATE)
    assert np.array_equal(heard(samples, rate), expected)
    for kind in (np.float32, np.float64):
        off = heard(samples.astype(kind) / 32_768, rate).astype(int) - expected
        assert np.abs(off).max() <= 2  # rounded at another place, for each channel once


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_another_resampler_agrees(rate: int) -> None:
    samples = noise(1, 3.0, rate)[0]
    expected = soxr.resample(samples.astype(np.float64), rate, RATE)
    found = heard(samples, rate)
    assert abs(len(found) - len(expected)) <= 1
    inner = slice(500, 60_000)
    assert np.std(found[inner] - expected[inner]) < 0.01 * np.std(expected[inner])


def test_every_kind_of_array_is_the_same_sound() -> None:
    samples = noise(1, 1.0, RATE)[0]
    exact = samples / 32_768  # float64
    given = [
        *(samples, samples.astype(">i2"), samples[None], exact.tolist()),
        *(torch.from_numpy(samples), torch.from_numpy(exact).requires_grad_(), exact.astype(np.float32)),
        *(np.asfortranarray(np.stack([exact, exact])), np.repeat(samples, 2)[::2], exact.astype(np.longdouble)),
    ]
    for waveform in given:
        assert np.array_equal(heard(waveform, RATE), samples)
    assert np.abs(heard(torch.from_numpy(exact).bfloat16(), np.int64(RATE)) - samples.astype(int)).max() < 80
    assert np.array_equal(heard(samples, float(RATE)), samples) and np.array_equal(
        heard([1.5, -1.5], RATE), [32767, -32768]
    )


def test_channels_that_cancel_are_not_silence() -> None:
    left = noise(1, 1.0, RATE)[0]
    assert np.array_equal(heard(np.stack([left, -left]), RATE), left)
    assert np.abs(heard(np.stack([left, 0 * left]), RATE) - left / 2).max() <= 1


@pytest.mark.parametrize(
    ("waveform", "line"),
    [
        (np.array([3000.0, -9000.0]), "float samples up to 9000, full scale is 1: divide by 32768"),
        (np.array([0.1, np.nan, np.inf]), "2 of the waveform's 3 samples are NaN or infinite"),
        (torch.full((4,), torch.nan), "4 of the waveform's 4 samples are NaN"),
        (np.zeros((500, 2)), r"shape (500, 2) has its channels last: transpose it, (channels, samples)"),
        (np.zeros((2, 2, 9)), "shape (2, 2, 9): give (samples,) or (channels, samples), one sound a call"),
        (np.zeros((400, 500)), "400 channels, at most 32 are taken: one sound a call"),
        (np.float64(0.5), "shape (): give (samples,)"),
        (np.empty(0), "shape (0,) has no samples"),
        (np.empty((0, 7)), "shape (0, 7) has no samples"),
        (np.zeros(9, np.int32), "int32 samples: give int16, or float in [-1, 1]: divide by 2147483648"),
        (np.zeros(9, np.uint8), "uint8 samples: give int16, or float in [-1, 1]"),
        (np.zeros(9, bool), "bool samples: give int16"),
        (np.zeros(9, complex), "complex128 samples: give int16"),
        ("a.wav", "samples: give int16, or float"),
        (None, "object samples: give int16"),
        ([[0.1, 0.2], [0.3]], "this is no array of samples: "),
        (torch.zeros(3).to_sparse(), "this is no array of samples: "),
    ],
)
def test_what_cannot_be_a_sound_is_one_line(waveform: Any, line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)) as caught:
        resampled(waveform, RATE, RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -1, 44.1, 999, 2e6, float("nan"), float("inf"), None, "44100", 44_100.5])
def test_what_is_no_rate_is_one_line(rate: Any) -> None:
    with pytest.raises(UserError, match=r"give the waveform's samples a second, 1000 to 1000000"):
        resampled(np.zeros(9), rate, RATE)


def test_less_than_a_sample_is_one_line() -> None:
    with pytest.raises(UserError, match="1 sample at 400000 Hz: too short to be resampled to 1000 Hz"):
        heard(np.zeros(1), 400_000, 1_000)
