"""What the numbers allow to say of one head, and the rule behind it.

A gain is the KL of the mean posterior less that of the map, on clips not learned from. The same is done with pairs of
sound and posterior that were shuffled among videos: if the posteriors do not depend on the sound, the true pairs' gain
is at any place among these alike, so it is the largest of 1 + n with chance 1 / (1 + n): a permutation test, exact
where videos are independent of each other. Something is found where that chance is at most 5 %, shared among the heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.cli.words import amount

LEVEL = 0.05
# A convention: with fewer, the bootstrap takes too small a sample for the population, and not to find means nothing.
FEWEST_VIDEOS = 40
RESAMPLED = 2000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Mean:
    """Nats, mean over clips, with the 95 % interval of a bootstrap over videos."""

    value: float
    interval: Interval

    @classmethod
    def of(cls, values: NDArray[np.float64], sources: NDArray[np.int64]) -> Mean:
        """Of values (clips,) and the number of each clip's source: whole sources are drawn, with replacement."""
        _, numbers = np.unique(sources, return_inverse=True)
        sums, counts = np.bincount(numbers, values), np.bincount(numbers)
        drawn = np.random.default_rng(0).integers(0, len(sums), (RESAMPLED, len(sums)))
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        return cls(float(values.mean()), (float(low), float(high)))

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"


@dataclass(frozen=True)
class ClassGain:
    """A class's part of the gain: sum_i p_i (log q_i - log m_i) / clips; over all classes these add up to the gain."""

    name: str
    share: float  # of the tested clips' posterior mass
    gain: float


@dataclass(frozen=True)
class Finding:
    """One head, tested on `clips` of `videos`. KL in nats from the teacher; `shuffled` has the gain of each seed."""

    head: str
    classes: int
    learned_videos: int  # the fewest that a map was learned from
    videos: int
    clips: int
    features: Mean
    mean_posterior: Mean
    uniform: Mean
    shuffled: list[float]
    random: list[Mean]  # networks of the same shape, a seed each
    gain: Mean  # over the mean posterior
    over_random: Mean | None  # how much nearer than the random networks' mean
    level: float  # that p must not exceed
    strengths: list[float]  # chosen, one for each map
    by_class: list[ClassGain]  # from the best told to the worst

    @property
    def equals(self) -> int:
        """How many maps of shuffled pairs gain as much as that of the true ones."""
        return sum(gain >= self.gain.value for gain in self.shuffled)

    @property
    def p(self) -> float:
        return (1 + self.equals) / (1 + len(self.shuffled))

    @property
    def shuffled_distances(self) -> list[float]:
        """KL beside that of the true pairs' mean posterior: in folds, shuffling changes the mean posterior's too."""
        return [self.mean_posterior.value - gain for gain in self.shuffled]

    @property
    def verdict(self) -> str:
        """too few | found | nothing."""
        if self.videos < FEWEST_VIDEOS:
            return "too few"
        return "found" if self.p <= self.level and self.gain.value > 0 else "nothing"

    def sentences(self, layer: str) -> list[str]:
        measured = (
            f"on {amount(self.clips, 'clip')} of {amount(self.videos, 'video')} that it did not "
            f"learn from, a linear map of {layer} is "
            f"{self.features.value:.3f} nats from the teacher, the mean posterior {self.mean_posterior.value:.3f}: "
            f"a gain of {self.gain}; {self.equals} of {len(self.shuffled)} maps of shuffled pairs gain as much "
            f"(p = {self.p:.2g}; at most {self.level:.2g} counts)"
        )
        if self.verdict == "found":
            return [f"{self.head}: SOUND TELLS WHAT IS SEEN: {measured}.", *self._beside_random(), self._told()]
        if self.verdict == "nothing":
            text = (
                f"NOTHING FOUND: {measured}. That is no proof that there is nothing: other features or more videos may "
                f"find it, and a gain of {max(self.gain.interval[1], 0):.3f} fits these figures too."
            )
        else:
            text = (
                f"TOO FEW VIDEOS TO SAY ANYTHING: {self.videos} to test on, and {FEWEST_VIDEOS} are wanted. For the "
                f"record, {measured}."
            )
        return [f"{self.head}: {text}"]

    def _beside_random(self) -> list[str]:
        if self.over_random is None:
            return []
        low, high = self.over_random.interval
        others = f"those of {len(self.random)} random networks of the same shape"
        if low > 0:
            text = f"its features are nearer to the teacher than {others}, by {self.over_random}"
        elif high < 0:
            text = f"its features are FURTHER from the teacher than {others}: {self.over_random}"
        else:
            text = f"its features cannot be told from {others}: {self.over_random}"
        return [f"{self.head}: {text}."]

    def _told(self, count: int = 5) -> str:
        def listed(classes: list[ClassGain]) -> str:
            return ", ".join(f"{each.name} {each.gain:+.4f}" for each in classes) or "none"

        best = [each for each in self.by_class if each.gain > 0][:count]
        worst = [each for each in reversed(self.by_class) if each.gain < 0][:count]
        return f"{self.head}: told best, in nats of the gain: {listed(best)}; worst: {listed(worst)}."
