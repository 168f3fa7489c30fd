"""Numbers and their file: counted by hand, Wilson's interval against the equation it solves, read as written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording
from evaluate.probe.scores import (
    Ranking,
    Score,
    ScoredRecording,
    Scores,
    accuracy_by_class,
    average_precisions,
    confusion_of,
    wilson,
)
from shards.errors import UserError


def test_confusion_counts_recordings() -> None:
    confusion = confusion_of(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2]), 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_accuracy_by_class_leaves_out_what_was_not_tested() -> None:
    recordings = (Recording(Path("a"), "a", 0, "1"),)
    benchmark = Benchmark(BenchmarkSpec("b", "folder", 1, 1), ("x", "y", "z"), recordings, ("1",))
    assert accuracy_by_class(benchmark, np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]])) == {"x": 0.75, "z": 0.0}


@pytest.mark.parametrize(("right", "total"), [(0, 10), (3, 10), (92, 100), (368, 400), (100, 100)])
def test_wilson_solves_its_equation(right: int, total: int) -> None:
    """Both ends p satisfy |right/total - p| = z sqrt(p (1 - p) / total): the definition of the interval."""
    for end in wilson(right, total):
        distance = 1.959963984540054 * math.sqrt(end * (1 - end) / total)
        assert abs(right / total - end) == pytest.approx(distance, abs=1e-9)


def score() -> Score:
    return Score(
        "b", "checkpoint", "linear SVM", "pool5", None, 0.5, "accuracy", (0.1, 0.9), {"1": 0.5}, {"x": 0.5},
        [[1, 1], [0, 0]], {"1": 0.01}, True, ["fold 1: doubtful"], {"count": 2}, 0.1,
        [0, 1, None], [[0.5, None], [-1.25, 1e-7], []],
    )  # fmt: skip


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    tested = [
        ScoredRecording('a [1], "b".wav', "ab" * 16, "1", 0),
        ScoredRecording("c\n.wav", "cd" * 16, "1", 0, "tape"),
        ScoredRecording("d", "", "2", 1),
    ]
    scores = Scores("b", "0" * 64, ["x", "y"], {"student": "tiny", "sha256": "abcdefghij"}, tested, [score()])
    path = scores.save(tmp_path / "out")
    assert Scores.load(path.parent) == scores and scores.name == "tiny-abcdefgh"
    lines = path.read_text().splitlines()
    assert f'  ["c\\n.wav", "{"cd" * 16}", "1", 0, "tape"],' in lines and "    [-1.25, 1e-07]," in lines  # a line each
    assert {"av", "numpy", "scikit-learn", "torch"} <= set(json.loads(path.read_bytes())["versions"])


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="has format 99, this program reads 4"):
        Scores.load(tmp_path)
    with pytest.raises(UserError, match="holds no scores"):
        Scores.load(tmp_path / "nothing")


def test_a_score_in_one_line() -> None:
    assert str(score()) == "checkpoint pool5 linear SVM: 50.0% of 2 (10.0% to 90.0%)"


def test_average_precision_against_sklearn() -> None:
    """Of continuous scores, of many equal ones, and of a resampling, which sklearn knows as weights."""
    generator = np.random.default_rng(0)
    for digits in (8, 1):
        scores = generator.normal(0, 1, (60, 4)).round(digits)
        positive = generator.random((60, 4)) < (0.05, 0.2, 0.5, 0.9)
        positive[0] = True
        found, (low, high) = average_precisions(positive, scores)
        np.testing.assert_allclose(found, average_precision_score(positive, scores, average=None), rtol=1e-12)
        assert low < found.mean() < high
        counts = generator.multinomial(60, np.full(60, 1 / 60))
        for label in range(4):
            resampled = Ranking.of(positive[:, label], scores[:, label]).average_precision(counts)
            expected = average_precision_score(positive[:, label], scores[:, label], sample_weight=counts)
            assert resampled == pytest.approx(expected, rel=1e-12) or counts[positive[:, label]].sum() == 0


def test_average_precision_by_hand() -> None:
    """Positives at places 1 and 3 of four: (1/1 + 2/3) / 2."""
    positive, scores = np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0])
    assert Ranking.of(positive, scores).average_precision() == pytest.approx(5 / 6, rel=1e-12)
    assert np.isnan(Ranking.of(~positive & False, scores).average_precision())


def test_the_interval_of_a_mean_average_precision_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes are rare, as in FSD50K: there all quantiles of a bootstrap lie above what was measured."""
    generator = np.random.default_rng(0)
    positive = generator.random((2000, 40)) < 0.01
    monkeypatch.setattr("evaluate.probe.scores.RESAMPLED", 100)
    found, (low, high) = average_precisions(positive, generator.normal(0, 1, positive.shape) + positive)
    assert low < found.mean() < high
