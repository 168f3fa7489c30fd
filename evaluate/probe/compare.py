"""`make compare a=... b=...`: two evaluations on the same recordings, and whether their difference is more than chance.

Two intervals that overlap say nothing about pairs: what counts are the recordings that one names rightly and the other
does not. McNemar's test (1947), exact: if neither is better, each of these n falls to either side like a coin, and
p = 2 sum_{i <= min} C(n, i) / 2^n. The interval of the difference is a bootstrap over recordings, both runs' together;
where takes of one source are known as groups, over these, since McNemar's coins are then not independent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.probe.scores import ACCURACY, NAME, Score, Scores
from shards.cli.command import command
from shards.cli.words import amount
from shards.errors import ContractError, UserError

LEVEL = 0.05
RESAMPLED = 10_000


@dataclass
class CompareSettings:
    """conf/compare.yaml."""

    a: Path  # scores.json of an evaluation, or its folder
    b: Path  # another on the same recordings; may be the same file, with of_a and of_b
    of_a: str | None = None  # which of a's scores, where it has several: words of its line, as 'pool5 linear SVM'
    of_b: str | None = None  # the same for b; null: of_a

    def __post_init__(self) -> None:
        self.of_b = self.of_b or self.of_a


@dataclass(frozen=True)
class Comparison:
    """Recordings that both name rightly, only a, only b, and neither; p, and the 95 % interval of a's lead."""

    both: int
    only_a: int
    only_b: int
    neither: int
    interval: tuple[float, float]
    groups: int  # drawn by the bootstrap: sources, or single recordings

    @classmethod
    def of(cls, a: NDArray[np.bool_], b: NDArray[np.bool_], groups: Sequence[Hashable] | None = None) -> Comparison:
        """Of what is right, (recordings,), in one order; whole `groups` are drawn, by default single recordings."""
        both, only_a, only_b, neither = (int(each.sum()) for each in (a & b, a & ~b, ~a & b, ~a & ~b))
        numbers: dict[Hashable, int] = {}
        group = [numbers.setdefault(each, len(numbers)) for each in (range(len(a)) if groups is None else groups)]
        sizes, leads = np.bincount(group), np.bincount(group, a.astype(np.float64) - b)
        # Drawing groups with replacement decides no more than how many of each kind there are.
        kinds, frequent = np.unique(np.stack([leads, sizes]), axis=1, return_counts=True)
        drawn = np.random.default_rng(0).multinomial(len(sizes), frequent / len(sizes), RESAMPLED)
        low, high = np.quantile((drawn @ kinds[0]) / (drawn @ kinds[1]), (0.025, 0.975))
        return cls(both, only_a, only_b, neither, (float(low), float(high)), len(sizes))

    @property
    def recordings(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def p(self) -> float:
        differing = self.only_a + self.only_b
        fewer = sum(math.comb(differing, count) for count in range(min(self.only_a, self.only_b) + 1))
        return min(1.0, float(2 * fewer / 2**differing))

    @property
    def better(self) -> str | None:
        """a or b, where both the test and the interval say that it is more than chance; else None."""
        low, high = self.interval
        if self.p > LEVEL or low <= 0 <= high:
            return None
        return "a" if low > 0 else "b"

    @property
    def sentence(self) -> str:
        lead, (low, high) = (self.only_a - self.only_b) / self.recordings, self.interval
        sources = "" if self.groups == self.recordings else f" of {amount(self.groups, 'source')}"
        found = (
            f"of {amount(self.recordings, 'recording')}{sources} {self.only_a} are named rightly by a alone and "
            f"{self.only_b} by b alone: a leads by {100 * lead:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), "
            f"McNemar p = {self.p:.2g}. "
        )
        if self.better is not None:
            return f"{found}That is more than chance: {self.better} is better."
        return f"{found}That CANNOT BE TOLD FROM CHANCE, which does not say that they are equal."


def run(settings: CompareSettings) -> None:
    """Print both scores, and what their difference allows to say."""
    (all_a, a), (all_b, b) = chosen(settings.a, settings.of_a), chosen(settings.b, settings.of_b)
    if (settings.a.resolve(), a) == (settings.b.resolve(), b):
        raise UserError(f"a and b are the same score of {settings.a}: name another, as of_b=...")
    print(f"a: {a}\nb: {b}")
    print(compared(all_a, a, all_b, b).sentence)


def chosen(path: Path, words: str | None) -> tuple[Scores, Score]:
    """The one score of a file whose line has these words. Raises UserError where there is none, or several."""
    if path.name != NAME and path.is_file():
        raise UserError(f"{path} is a file of another name: give the {NAME} of an evaluation, or its folder")
    scores = Scores.load(path.parent if path.name == NAME else path)
    found = [score for score in scores.scores if (words or "") in str(score)]
    if len(found) != 1:
        lines = "; ".join(map(str, scores.scores)) or "none"
        wanted = f"with {words!r} " if words else ""
        raise UserError(f"{path} has {len(found)} scores {wanted}and one is compared: name it by of_a or of_b: {lines}")
    return scores, found[0]


def compared(all_a: Scores, a: Score, all_b: Scores, b: Score) -> Comparison:
    """Raises ContractError where the recordings tested, or their classes, differ."""
    for score, name in ((a, "a"), (b, "b")):
        if score.measure != ACCURACY:
            raise UserError(f"{name} is a {score.measure}: pairs are compared by whether a recording is named rightly")
    right_a, right_b = rights(all_a, a), rights(all_b, b)
    for one, other, names in ((right_a, right_b, "ab"), (right_b, right_a, "ba")):
        if lacking := [key for key in one if key not in other]:
            (_, _, category), (name, _, _) = lacking[0], one[lacking[0]]
            raise ContractError(
                f"{names[0]} tests {amount(len(one), 'recording')} and {names[1]} {len(other)}; {len(lacking)} are not "
                f"among the latter with that class (first {name}, {category}): evaluate both on the same recordings"
            )
    pairs = [(right_a[key], right_b[key], key) for key in right_a]
    groups = [ours[2] or theirs[2] or key for ours, theirs, key in pairs]
    a_right, b_right = (np.array([pair[side][1] for pair in pairs]) for side in (0, 1))
    return Comparison.of(a_right, b_right, groups)


def rights(scores: Scores, score: Score) -> dict[tuple[str, int, str], tuple[str, bool, str]]:
    """{(digest, count, class): (name, whether it was named rightly, group)} of the recordings tested.

    Recordings are known by their bytes, wherever they lie; `count` numbers those of equal bytes.
    """
    found: dict[tuple[str, int, str], tuple[str, bool, str]] = {}
    seen: Counter[str] = Counter()
    for recording, predicted in zip(scores.recordings, score.predicted, strict=True):
        if predicted is not None:
            key = (recording.digest, seen[recording.digest], scores.classes[recording.label])
            found[key] = (recording.name, predicted == recording.label, recording.group)
            seen[recording.digest] += 1
    return found


if __name__ == "__main__":
    command(CompareSettings, "compare", run)
