"""The map from sound to posteriors: the mean posterior, tilted by a ridge regression on principal components.

Of learned clips with features X (clips, dimensions) and posteriors P (clips, classes), with k components:

    m = (sum_i P_i + 1 / classes) / (clips + 1)          an even clip is counted in, so that no class is impossible
    Z = X with each column at mean 0 and deviation 1, = U S V' (singular values);  T = Z V_k,  t(x) = z(x) V_k
    B = diag(1 / (s_j^2 + strength * mean_k(s^2))) T' log max(P, FLOOR)
    log q(x) = log m + t(x) B - log sum_c exp(log m_c + (t(x) B)_c)

It is linear in log posteriors, and with an infinite strength it is the mean posterior itself: it can say that there is
nothing to learn. T' 1 = 0, so the log posteriors need not be centred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.probe.evidence.splits import Split

FLOOR = 2.0**-24  # the smallest float16 above 0: shards have 0 for what is less
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, math.inf)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """Components of the learned clips (clips, k), of others (others, k), and the former's squared lengths (k,)."""

    learned: Array
    others: Array
    squares: Array

    @classmethod
    def of(cls, learned: Array, others: Array, components: int) -> Projection:
        """From features (clips, dimensions); means, deviations and directions are those of the learned clips alone."""
        mean, deviation = learned.mean(axis=0), learned.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        centred = (learned - mean) / scale
        _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
        # Directions of no length are those of rounding: their coefficients would be anything.
        kept = min(components, int((lengths > 1e-9 * max(lengths[0], 1e-300)).sum()))
        axes = directions[:kept].T
        return cls(centred @ axes, ((others - mean) / scale) @ axes, lengths[:kept] ** 2)


def mean_posterior(posteriors: Array) -> Array:
    """m, (classes,), of posteriors (clips, classes)."""
    clips, classes = posteriors.shape
    mean: Array = (posteriors.sum(axis=0) + 1 / classes) / (clips + 1)
    return mean


@dataclass(frozen=True)
class Posteriors:
    """Of all clips: p, and log max(p, FLOOR), both (clips, classes)."""

    values: Array
    logs: Array

    @classmethod
    def of(cls, values: Array) -> Posteriors:
        return cls(values, np.log(np.maximum(values, FLOOR)))

    def taken(self, clips: NDArray[np.int64]) -> Posteriors:
        """Those of these clips, in this order."""
        return Posteriors(self.values[clips], self.logs[clips])


def predict(projection: Projection, learned: Posteriors, strengths: Sequence[float]) -> Iterator[Array]:
    """log q (others, classes) for each strength, learned from the learned clips' posteriors."""
    log_mean = np.log(mean_posterior(learned.values))
    products = projection.learned.T @ learned.logs  # (k, classes)
    for strength in strengths:
        if math.isinf(strength) or not len(projection.squares):
            yield np.broadcast_to(log_mean, (len(projection.others), len(log_mean)))
            continue
        shrunk = projection.squares + strength * projection.squares.mean()
        logits = projection.others @ (products / shrunk[:, None])
        logits += log_mean
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        yield logits


def divergence(posteriors: Array, log_predicted: Array) -> Array:
    """D_KL(p || q) in nats of posteriors and log q (clips, classes): (clips,). What p excludes adds nothing."""
    logs = np.log(np.where(posteriors > 0, posteriors, 1.0))
    distance: Array = (posteriors * (logs - log_predicted)).sum(axis=1)
    return distance


@dataclass(frozen=True)
class Part:
    """A split with its clips projected, and inside its learned clips the splits that the strength is chosen by."""

    split: Split
    projection: Projection
    inner: tuple[tuple[Split, Projection], ...]

    @classmethod
    def of(cls, features: Array, split: Split, components: int) -> Part:
        def projected(split: Split) -> Projection:
            return Projection.of(features[split.learned], features[split.tested], components)

        return cls(split, projected(split), tuple((inner, projected(inner)) for inner in split.inner))

    def predict(self, posteriors: Posteriors) -> tuple[Array, float]:
        """log q (tested clips, classes), and the strength: that of the least mean KL on clips left out in turn.

        `posteriors` are those of all clips; the tested ones are not looked at. Of equals the largest.
        """
        totals = np.zeros(len(STRENGTHS))
        for split, projection in self.inner:
            held_out = posteriors.values[split.tested]
            predicted = predict(projection, posteriors.taken(split.learned), STRENGTHS)
            # KL but for the teacher's own entropy, which is the same for every strength.
            totals -= [np.vdot(held_out, each) for each in predicted]
        strength = STRENGTHS[len(STRENGTHS) - 1 - int(totals[::-1].argmin())]
        return next(predict(self.projection, posteriors.taken(self.split.learned), [strength])), strength
