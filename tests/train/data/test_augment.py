"""Augmentation is a function of (seed, position)."""

from __future__ import annotations

import numpy as np
import pytest

from train.data.augment import Augment


def test_off_by_default() -> None:
    shifts, gains = Augment().draw(0, np.arange(5), samples=4)
    assert not shifts.any() and gains is None


def test_a_position_draws_the_same_whatever_stands_beside_it() -> None:
    augment = Augment(roll=True, gain_db=6.0)
    shifts, gains = augment.draw(3, np.arange(100, 164), samples=4)
    assert gains is not None
    for rank in range(2):
        part = np.arange(100 + 32 * rank, 132 + 32 * rank)
        some_shifts, some_gains = augment.draw(3, part, samples=4)
        assert some_gains is not None
        np.testing.assert_array_equal(some_shifts, shifts[part - 100])
        np.testing.assert_array_equal(some_gains, gains[part - 100])
    other, _ = augment.draw(4, np.arange(100, 164), samples=4)
    assert (other != shifts).any()


def test_every_shift_and_the_whole_range_of_gains_is_drawn_evenly() -> None:
    shifts, gains = Augment(roll=True, gain_db=6.0).draw(0, np.arange(4000), samples=4)
    assert gains is not None
    counts = np.bincount(shifts, minlength=4)
    assert len(counts) == 4 and (abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    decibels = 20 * np.log10(gains)
    assert -6 <= decibels.min() < -5.9 and 5.9 < decibels.max() <= 6
    assert abs(decibels.mean()) < 5 * 12 / np.sqrt(12 * 4000)


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(ValueError, match="gain_db"):
        Augment(gain_db=-1.0)
