"""Window arithmetic against a naive loop and against the numbers of the authors' scripts."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.probe.features.windows import Cut, Windows, cut_for, join
from shards.cli.command import compose
from shards.errors import UserError
from train.model.layers import StudentSpec
from train.model.student import Student

SOUNDNET8 = Student(compose(StudentSpec, "student/soundnet8"), {"objects": 2}, sample_rate=22_050)


@pytest.mark.parametrize(
    ("layer", "seconds", "window_seconds", "steps", "hop", "windows", "dimensions"),
    [
        ("pool5", 10, 1, 3, 1, 25, 768),  # ESC, as the authors' script has it
        ("pool5", 30, 5, 14, 1, 68, 3584),  # DCASE: 81 steps
        ("conv4", 10, 1, 22, 8, 25, 2816),  # a step is 46 ms, so the hop is 8 of them
        ("conv5", 10, 1, 11, 4, 25, 2816),
        ("conv6", 10, 1, 2, 1, 13, 1024),  # a step is longer than 0.37 s
        ("conv7", 10, 1, 1, 1, 8, 1024),
        ("conv8", 10, 1, 1, 1, 1, 2),  # the whole recording
        ("conv8", 30, 5, 7, 1, 1, 14),
    ],
)
def test_cuts_of_soundnet8(
    layer: str, seconds: float, window_seconds: float, steps: int, hop: int, windows: int, dimensions: int
) -> None:
    cut = cut_for(SOUNDNET8, layer, seconds=seconds, window_seconds=window_seconds)
    assert (cut.steps, cut.hop) == (steps, hop)
    found = SOUNDNET8.output_steps(round(seconds * 22_050), layer)
    channels = 2 if layer == "conv8" else SOUNDNET8.blocks[layer if layer != "pool5" else "conv5"].conv.out_channels
    assert cut(np.zeros((channels, found), np.float32)).shape == (windows, dimensions)


def test_a_whole_number_of_steps_is_not_rounded_up() -> None:
    window_seconds = 30 / 81 * 24
    assert window_seconds / 30 * 81 > 24  # in floating point
    assert cut_for(SOUNDNET8, "pool5", seconds=30, window_seconds=window_seconds).steps == 24


def test_sounds_too_short_for_a_layer_are_refused() -> None:
    with pytest.raises(UserError, match="conv8 of soundnet8 needs at least 209374 samples"):
        cut_for(SOUNDNET8, "conv8", seconds=5, window_seconds=1)


def test_windows_of_chosen_recordings() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    windows = Windows(values, np.array([0, 1, 1, 2, 3, 3]))
    chosen = windows.of(np.array([1, 3]))
    assert chosen.recordings.tolist() == [0, 0, 1, 1]
    assert np.array_equal(chosen.values, values[[1, 2, 4, 5]])


def test_means_against_a_loop() -> None:
    generator = np.random.default_rng(1)
    counts = [3, 1, 4]
    recordings = np.repeat(np.arange(3), counts)
    scores = generator.normal(size=(8, 5))
    windows = Windows(np.zeros((8, 1), np.float32), recordings)
    for recording in range(3):
        expected = [math.fsum(column) / counts[recording] for column in scores[recordings == recording].T]
        assert windows.mean(scores)[recording] == pytest.approx(expected)


def test_parts_are_joined_in_order() -> None:
    windows = join([np.full((2, 3), 1, np.float32), np.full((1, 3), 2, np.float32)])
    assert windows.recordings.tolist() == [0, 0, 1] and windows.values[:, 0].tolist() == [1, 1, 2]
    with pytest.raises(UserError, match=r"different sizes \[3, 4\]"):
        join([np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32)])


@settings(derandomize=True)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 9), st.integers(1, 3))
def test_every_cut_has_as_many_windows_as_fit(length: int, steps: int, hop: int, channels: int) -> None:
    """floor((T - steps) / hop) + 1 of them; window w holds the steps from w * hop on, channel by channel."""
    if steps > length:
        return
    features = np.arange(channels * length, dtype=np.float32).reshape(channels, length)
    cut = Cut(steps, hop)(features)
    assert cut.shape == ((length - steps) // hop + 1, channels * steps)
    for window, row in enumerate(cut):
        expected = [channel * length + window * hop + step for channel in range(channels) for step in range(steps)]
        assert row.tolist() == expected


@settings(derandomize=True, max_examples=40)
@given(st.sampled_from(["conv4", "conv5", "pool5", "conv6"]), st.integers(5, 30), st.integers(1, 5))
def test_cuts_of_soundnet8_against_exact_fractions(layer: str, seconds: int, window_seconds: int) -> None:
    """Steps are ceil(window / whole * T); the hop is 8,192 samples in the layer's strides, or one."""
    cut = cut_for(SOUNDNET8, layer, seconds=seconds, window_seconds=window_seconds)
    steps = SOUNDNET8.output_steps(seconds * 22_050, layer)
    stride = math.prod(each.stride for each in SOUNDNET8.spec.through(layer))
    assert cut.steps == math.ceil(Fraction(window_seconds * steps, seconds))
    assert cut.hop == max(1, round(Fraction(8192, stride)))
