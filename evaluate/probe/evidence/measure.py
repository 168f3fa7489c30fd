"""One head measured: the map of the true pairs, beside maps of shuffled pairs, random networks and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from evaluate.probe.evidence.findings import LEVEL, ClassGain, Finding, Mean
from evaluate.probe.evidence.splits import shuffled
from evaluate.probe.evidence.tilt import Part, Posteriors, divergence, mean_posterior
from shards.errors import UserError
from train.device.threads import side_by_side

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """Of all tested clips, one split behind the other: which they are, log q and log m (tested, classes)."""

    tested: NDArray[np.int64]
    log_predicted: Array
    log_mean: Array
    strengths: list[float]


def measure(
    head: str,
    names: Sequence[str],
    posteriors: Array,
    networks: Sequence[Sequence[Part]],
    sources: NDArray[np.int64],
    *,
    shuffles: int,
    level: float,
) -> Finding:
    """Posteriors (clips, classes) of one head; the parts of the network in question, then of each random one."""
    parts = networks[0]
    true = Posteriors.of(posteriors)
    found = predict_all(parts, true)
    truth, owners = posteriors[found.tested], sources[found.tested]
    own, mean = divergence(truth, found.log_predicted), divergence(truth, found.log_mean)
    random = [divergence(truth, predict_all(other, true).log_predicted) for other in networks[1:]]

    def gain_of_shuffled(seed: int) -> float:
        mixed = true.taken(shuffled(sources, swapped(parts, len(sources)), seed))
        found = predict_all(parts, mixed)
        truth = mixed.values[found.tested]
        return float((divergence(truth, found.log_mean) - divergence(truth, found.log_predicted)).mean())

    # These products are small: BLAS's own threads wait for each other, and took 40 times the CPU seconds.
    with threadpool_limits(1):
        by_chance = list(side_by_side(gain_of_shuffled, list(range(shuffles))))
    classes = len(names)
    return Finding(
        head=head,
        classes=classes,
        learned_videos=min(len(np.unique(sources[part.split.learned])) for part in parts),
        videos=len(np.unique(owners)),
        clips=len(owners),
        features=Mean.of(own, owners),
        mean_posterior=Mean.of(mean, owners),
        uniform=Mean.of(divergence(truth, np.full_like(truth, -np.log(classes))), owners),
        shuffled=by_chance,
        random=[Mean.of(each, owners) for each in random],
        gain=Mean.of(mean - own, owners),
        over_random=Mean.of(np.mean(random, axis=0) - own, owners) if random else None,
        level=level,
        strengths=found.strengths,
        by_class=gains_by_class(names, truth, found),
    )


def level_for(heads: int, shuffles: int) -> float:
    """What p must not exceed where so many heads are looked at. Raises UserError where no p could be so small."""
    level = LEVEL / heads
    if 1 / (shuffles + 1) > level:
        raise UserError(
            f"shuffles={shuffles} are too few for a significance level of {level:.2g} ({LEVEL:g} shared among {heads} "
            f"heads): give at least {round(1 / level) - 1}"
        )
    return level


def swapped(parts: Sequence[Part], clips: int) -> NDArray[np.bool_]:
    """(clips,): the clips that exchange posteriors, which are all that some map learns from.

    With the shards' own splits the tested ones keep theirs; in folds every clip is learned from in turn.
    """
    learned = np.zeros(clips, np.bool_)
    for part in parts:
        learned[part.split.learned] = True
    return learned


def predict_all(parts: Sequence[Part], posteriors: Posteriors) -> Predicted:
    """Every part's map and mean posterior on its tested clips."""
    predicted, strengths = zip(*(part.predict(posteriors) for part in parts), strict=True)
    means = [np.log(mean_posterior(posteriors.values[part.split.learned])) for part in parts]
    log_mean = [np.broadcast_to(mean, each.shape) for mean, each in zip(means, predicted, strict=True)]
    tested = np.concatenate([part.split.tested for part in parts])
    return Predicted(tested, np.concatenate(predicted), np.concatenate(log_mean), list(strengths))


def gains_by_class(names: Sequence[str], truth: Array, found: Predicted) -> list[ClassGain]:
    """From the best told to the worst."""
    gains = (truth * (found.log_predicted - found.log_mean)).mean(axis=0)
    shares = truth.mean(axis=0)
    order = np.argsort(-gains, kind="stable")
    return [ClassGain(names[at], float(shares[at]), float(gains[at])) for at in order]
