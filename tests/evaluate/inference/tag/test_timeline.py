"""The picture of a sound: a row for every class that stands out somewhere, coloured where it does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from evaluate.inference.posteriors import SoundPosteriors
from evaluate.inference.tag.tags import Baseline
from evaluate.inference.tag.timeline import CLASSES, strongest, timeline

EVEN = np.full((4, 20), 1 / 20, np.float32)


def test_each_part_has_its_strongest_before_any_has_its_second() -> None:
    lifts = np.ones((4, 20))
    lifts[0, 1:19] = np.linspace(9, 8, 18)  # one part in which many stand out
    lifts[1, 0], lifts[3, 19] = 2.0, 3.0
    chosen = strongest(EVEN, lifts, 20)
    assert len(chosen) == CLASSES and {0, 19, 1, 2, 3} <= set(chosen)
    assert chosen[-1] == 19 and chosen[-2] == 0 and chosen[:3] == sorted(chosen[:3])  # by the time of their peak


def test_what_is_unlikely_is_not_shown() -> None:
    posteriors = EVEN.copy()
    posteriors[:, 3] = 0.01
    lifts = np.ones((4, 20))
    lifts[:, 3] = 100
    assert 3 not in strongest(posteriors, lifts, 20)


def test_colours_reach_to_the_highest_lift() -> None:
    posteriors = np.array([[0.4, 0.6], [0.8, 0.2]], np.float32)
    edges = np.arange(3.0)
    sound = SoundPosteriors(2.0, edges[:-1], edges[1:], {"objects": posteriors}, {}, 500 * np.arange(8, dtype=np.int16))
    base = Baseline({"objects": np.array([0.02, 0.5])}, "a base")  # lifts of 20 and 40, where 10 would be the end
    png = timeline(Path("a.wav"), sound, base, {"objects": ("strong", "weak")})
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
    for lift in (20, 40):
        colour = np.array(colormaps["YlGnBu"](np.log2(lift) / np.log2(40), bytes=True)[:3], int)
        assert (np.abs(pixels - colour) < 4).all(axis=2).sum() > 5000


def test_the_picture_has_the_colour_of_each_lift_where_it_is() -> None:
    posteriors = np.full((10, 2), 0.5, np.float32)
    posteriors[:5], posteriors[5:] = [0.95, 0.05], [0.5, 0.5]
    edges = np.arange(11.0)
    sound = SoundPosteriors(
        10.0, edges[:-1], edges[1:], {"objects": posteriors}, {}, 500 * np.arange(40, dtype=np.int16)
    )
    base = Baseline({"objects": np.array([0.1, 0.5])}, "nothing in particular: $x^2$")
    png = timeline(Path("a $b\udcff.wav"), sound, base, {"objects": ("strong, very", "weak $")})
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
    assert pixels.shape[1] > 1000

    def painted(lift: float) -> NDArray[np.int64]:
        """Columns of the pixels that have the colour of a lift."""
        colour = np.array(colormaps["YlGnBu"](np.log2(lift) / np.log2(10), bytes=True)[:3], int)
        return np.nonzero((np.abs(pixels - colour) < 4).all(axis=2))[1]

    first, second = painted(9.5), painted(5.0)
    assert min(len(first), len(second)) > 4000 and 0.9 < len(first) / len(second) < 1.1
    assert np.percentile(first, 95) <= np.percentile(second, 5)
    assert png == timeline(Path("a $b\udcff.wav"), sound, base, {"objects": ("strong, very", "weak $")})
