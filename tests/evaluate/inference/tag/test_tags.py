"""Lift: posterior over mean, the likely ones in the order of lift, and what the mean is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.inference.posteriors import SoundPosteriors
from evaluate.inference.tag.tags import LEAST_SHARE, Baseline, Tag, strongest_tags
from train.checkpoint.checkpoint import load


def sound(seconds: float, *means: float) -> SoundPosteriors:
    nothing = np.empty(0)
    return SoundPosteriors(seconds, nothing, nothing, {}, {"objects": np.array(means)}, nothing.astype(np.int16))


def test_lift_is_the_posterior_over_the_mean() -> None:
    base = Baseline({"objects": np.array([0.5, 0.4, 0.1])}, "")
    assert base.lift("objects", np.array([0.25, 0.4, 0.35])).tolist() == pytest.approx([0.5, 1.0, 3.5])
    assert base.lift("objects", np.ones((2, 3))).shape == (2, 3)


def test_a_class_that_never_came_up_has_a_finite_lift() -> None:
    base = Baseline({"objects": np.array([1.0, 0.0])}, "")
    assert base.lift("objects", np.array([0.5, 0.5]))[1] == pytest.approx(0.5 / (LEAST_SHARE / 2))


def test_tags_fall_in_lift_among_what_is_likely() -> None:
    posterior, lift = np.array([0.24, 0.30, 0.25, 0.21]), np.array([100.0, 1.5, 4.0, 50.0])
    assert strongest_tags(posterior, lift, "abcd", 5) == [Tag("c", 0.25, 4.0), Tag("b", 0.30, 1.5)]
    over_itself = np.array([1, 1, 1 + 1e-9, 1])
    assert [tag.name for tag in strongest_tags(posterior, over_itself, "abcd", 1)] == ["b"]  # equal lifts: the likelier


def test_some_class_is_always_named() -> None:
    even = np.full(1000, 1 / 1000, np.float32)
    assert len(strongest_tags(even, np.ones(1000), [str(index) for index in range(1000)], 5)) == 5


def test_the_mean_of_sounds_is_by_their_length() -> None:
    base = Baseline.of([sound(1.0, 0.9, 0.1), sound(3.0, 0.1, 0.9)], "two sounds")
    assert base.means["objects"].tolist() == pytest.approx([0.3, 0.7]) and base.origin == "two sounds"


def test_a_checkpoint_may_have_its_training_mean(checkpoint: Path) -> None:
    without = load(checkpoint)
    assert Baseline.trained(without) is None
    known = Baseline.trained(replace(without, training_mean={"objects": torch.tensor([0.2, 0.3, 0.5])}))
    assert known is not None and known.means["objects"].tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_a_name_is_shown_without_its_synonyms() -> None:
    assert Tag("tench, Tinca tinca", 0.1, 2.0).short == "tench"
