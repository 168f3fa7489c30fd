"""Numbers and their file: counted by hand, Wilson's interval against the equation it solves, read as written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording
from evaluate.probe.scores import Score, ScoredRecording, Scores, accuracy_by_class, confusion_of, wilson
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
        "b", "checkpoint", "linear SVM", "pool5", None, 0.5, (0.1, 0.9), {"1": 0.5}, {"x": 0.5}, [[1, 1], [0, 0]],
        {"1": 0.01}, True, ["fold 1: doubtful"], {"count": 2}, 0.1, [0, 1, None], [[0.5, None], [-1.25, 1e-7], []],
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
    with pytest.raises(UserError, match="has format 99, this program reads 3"):
        Scores.load(tmp_path)
    with pytest.raises(UserError, match="holds no scores"):
        Scores.load(tmp_path / "nothing")


def test_a_score_in_one_line() -> None:
    assert str(score()) == "checkpoint pool5 linear SVM: 50.0% of 2 (10.0% to 90.0%)"
