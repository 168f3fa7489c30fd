"""The label grid: every length follows from four numbers."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.clip import ClipSpec


def test_the_papers_clip():
    clip = ClipSpec()
    assert (clip.samples, clip.window_samples, clip.window_seconds, clip.frames) == (441_000, 110_250, 5.0, 4)
    assert clip.frame_times(4) == [2.5, 7.5, 12.5, 17.5]  # centres of the four 5 s windows
    assert clip.frame_times(1, window_seconds=3.0) == [1.5]


def test_more_frames_a_window_lie_at_the_centres_of_equal_parts():
    assert ClipSpec(seconds=4, windows=2, frames_per_window=2).frame_times(2) == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("fields", [{"seconds": 20.00001}, {"windows": 11}, {"windows": 0}, {"sample_rate": -1}])
def test_what_does_not_divide_is_refused(fields):
    with pytest.raises(ValueError, match="windows"):
        ClipSpec(**fields)


@settings(derandomize=True)
@given(st.sampled_from([1_000, 16_000, 22_050]), st.integers(1, 12), st.integers(1, 4), st.integers(1, 40))
def test_frame_times_are_the_centres_of_equal_parts(rate: int, windows: int, frames: int, halves: int) -> None:
    """In exact fractions: part i of n, of a whole of so many seconds, has its centre at (2 i + 1) / 2 n of them."""
    whole, parts = Fraction(windows * halves, 2), windows * frames
    clip = ClipSpec(rate, float(whole), windows, frames)
    assert clip.samples == rate * whole == windows * clip.window_samples
    expected = [float(whole * (2 * part + 1) / (2 * parts)) for part in range(parts)]
    assert clip.frame_times(windows) == pytest.approx(expected, rel=1e-12)
    assert clip.frame_times(windows)[: frames * (windows // 2)] == clip.frame_times(windows // 2)
