"""The map against its formula, written out with other means; and that it looks at nothing it must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluate.probe.evidence.splits import halves
from evaluate.probe.evidence.tilt import FLOOR, STRENGTHS, Part, Posteriors, Projection, divergence, predict


def drawn(clips: int = 30, dimensions: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.normal(size=(clips, dimensions)) * random.uniform(0.1, 9, dimensions) + 5
    posteriors = random.dirichlet(np.ones(classes), clips)
    posteriors[0] = np.eye(classes)[0]  # a teacher that excludes all but one
    return features, posteriors


@pytest.mark.parametrize("strength", [0.1, 10.0])
@pytest.mark.parametrize("components", [3, 6])
def test_the_map_is_the_ridge_of_its_formula(strength: float, components: int) -> None:
    """By the covariance's eigenvectors, the normal equations and loops, where the code has an SVD and arrays."""
    features, posteriors = drawn()
    learned, others, truth = features[:20], features[20:], posteriors[:20]
    (found,) = predict(Projection.of(learned, others, components), Posteriors.of(truth), [strength])

    mean, deviation = learned.mean(axis=0), learned.std(axis=0)
    standard = (learned - mean) / deviation
    lengths, axes = np.linalg.eigh(standard.T @ standard)
    axes, squares = axes[:, ::-1][:, :components], lengths[::-1][:components]
    inputs = standard @ axes
    logs = np.log(np.maximum(truth, FLOOR))
    penalty = strength * squares.mean() * np.eye(components)
    weights = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ (logs - logs.mean(axis=0)))
    prior = [(truth[:, each].sum() + 0.25) / 21 for each in range(4)]
    for clip, row in enumerate(others):
        tilt = ((row - mean) / deviation) @ axes @ weights
        odds = [prior[each] * math.exp(tilt[each]) for each in range(4)]
        np.testing.assert_allclose(np.exp(found[clip]), np.array(odds) / sum(odds), rtol=1e-9)


def test_the_strongest_map_is_the_mean_posterior() -> None:
    features, posteriors = drawn()
    (found,) = predict(Projection.of(features, features, 3), Posteriors.of(posteriors), [math.inf])
    np.testing.assert_allclose(np.exp(found), np.tile((posteriors.sum(axis=0) + 0.25) / 31, (30, 1)))


def test_divergence_against_its_definition() -> None:
    _, posteriors = drawn()
    predicted = np.roll(posteriors, 1, axis=0) + 0.01
    predicted /= predicted.sum(axis=1, keepdims=True)
    expected = [
        sum(p * math.log(p / q) for p, q in zip(true, other, strict=True) if p > 0)
        for true, other in zip(posteriors, predicted, strict=True)
    ]
    np.testing.assert_allclose(divergence(posteriors, np.log(predicted)), expected, rtol=1e-12)


def test_what_is_tested_decides_nothing() -> None:
    features, posteriors = drawn()
    sources, is_tested = np.arange(30) // 2, np.arange(30) >= 20
    (split,) = halves(sources, is_tested)
    found, strength = Part.of(features, split, 3).predict(Posteriors.of(posteriors))
    other = np.where(is_tested[:, None], 0.25, posteriors)
    louder = np.where(is_tested[:, None], 1e3, features)
    again, chosen = Part.of(features, split, 3).predict(Posteriors.of(other))
    assert chosen == strength and np.array_equal(found, again)
    _, chosen = Part.of(louder, split, 3).predict(Posteriors.of(posteriors))
    assert chosen == strength


def test_a_strength_for_what_there_is_and_none_for_noise() -> None:
    random = np.random.default_rng(1)
    sources, is_tested = np.arange(200) // 2, np.arange(200) >= 150
    features = random.normal(size=(200, 5))
    (split,) = halves(sources, is_tested)
    telling = np.exp(2 * features[:, :3])
    telling /= telling.sum(axis=1, keepdims=True)
    _, strength = Part.of(features, split, 5).predict(Posteriors.of(telling))
    assert strength == min(STRENGTHS)
    _, strength = Part.of(features, split, 5).predict(Posteriors.of(random.permutation(telling)))
    assert strength > 1


def test_features_that_say_nothing_leave_the_mean() -> None:
    """A silent network's: every dimension constant."""
    _, posteriors = drawn()
    projection = Projection.of(np.ones((30, 6)), np.ones((2, 6)), 3)
    (found,) = predict(projection, Posteriors.of(posteriors), [1.0])
    np.testing.assert_allclose(np.exp(found[1]), (posteriors.sum(axis=0) + 0.25) / 31)
