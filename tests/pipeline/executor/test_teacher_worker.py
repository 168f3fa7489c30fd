"""Posteriors of windows against plain float64 arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.executor.teacher_worker import window_posteriors


def divergence(stored: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """KL in nats from each stored row, normalised, to the exact one: the direction in which a student is taught."""
    rows = stored.astype(np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    return np.sum(np.where(rows > 0, rows * np.log(np.where(rows > 0, rows, 1) / exact), 0), axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [365, 1000])
@pytest.mark.parametrize(
    ("sharpness", "nats"),  # from nearly flat to one class that holds nearly all, and many below float16's finest step
    [(0.5, 3e-8), (2, 6e-8), (4, 5e-6), (8, 5e-6)],
)
def test_float16_rows_are_as_good_as_float32(classes: int, sharpness: float, nats: float) -> None:
    exact = softmax(sharpness * np.random.default_rng(1).standard_normal((400, classes)))
    stored = window_posteriors(exact.astype(np.float32), 400)
    assert stored.dtype == np.float16 and stored.shape == (400, classes)
    assert divergence(stored, exact).max() < nats
    assert np.abs(stored.astype(np.float64).sum(axis=1) - 1).max() < 2**-11 + classes * 2**-25


def test_a_window_is_the_mean_of_its_own_frames() -> None:
    frames = softmax(np.random.default_rng(2).standard_normal((6, 5))).astype(np.float32)
    expected = [frames[:3].mean(axis=0), frames[3:].mean(axis=0)]
    assert np.allclose(window_posteriors(frames, 2), expected, atol=2**-12)


def test_rows_are_normalised_before_they_are_rounded() -> None:
    assert window_posteriors(np.array([[1, 3]], np.float32), 1).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(("frames", "windows"), [(4, 3), (2, 4), (0, 1), (4, 0)])
def test_frames_that_do_not_divide_are_refused(frames: int, windows: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames do not divide into {windows} windows"):
        window_posteriors(np.full((frames, 3), 1 / 3, np.float32), windows)


@pytest.mark.parametrize("row", [[np.nan, 0.5], [np.inf, 0.5], [0.0, 0.0]])
def test_rows_that_are_no_distribution_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="finite with a positive sum"):
        window_posteriors(np.array([row], np.float32), 1)
