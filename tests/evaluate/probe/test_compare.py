"""Pairs: McNemar against scipy, the interval against its formula, and what may not be compared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluate.probe.compare import CompareSettings, Comparison, run
from evaluate.probe.scores import ScoredRecording, Scores
from shards.errors import UserError
from tests.evaluate.conftest import score_of
from tests.forked import python


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (61, 40), (400, 3), (1200, 1100)]
)
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    found = Comparison(7, only_a, only_b, 3, (0, 0), 1).p
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_interval_is_one_of_pairs() -> None:
    """Its half is 1.96 standard errors of the paired difference: far less than of two separate shares."""
    random = np.random.default_rng(0)
    a = random.random(400) < 0.8
    b = a & (random.random(400) < 0.97)  # wrong wherever a is, and a little oftener
    found = Comparison.of(a, b)
    lead = a.astype(float) - b
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(1.96 * lead.std() / math.sqrt(400), rel=0.12)
    assert (found.both, found.only_a, found.only_b, found.neither) == (b.sum(), (a & ~b).sum(), 0, (~a).sum())
    separate = 1.96 * math.sqrt((a.var() + b.var()) / 400)
    assert low > 0 and separate > lead.mean()  # two intervals overlap, and yet a is better


def test_takes_of_one_source_count_as_one() -> None:
    """Ten takes that always go together: the interval is that of the sources, sqrt(10) times as wide."""
    random = np.random.default_rng(0)
    a, b = (np.repeat(random.random(60) < share, 10) for share in (0.7, 0.5))
    alone, grouped = Comparison.of(a, b), Comparison.of(a, b, np.repeat(np.arange(60), 10).tolist())
    widths = [high - low for low, high in (alone.interval, grouped.interval)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(10), rel=0.1)
    lead = a[::10].astype(float) - b[::10]
    assert widths[1] / 2 == pytest.approx(1.96 * lead.std() / math.sqrt(60), rel=0.1)
    assert (grouped.groups, grouped.recordings) == (60, 600) and "of 600 recordings of 60 sources" in grouped.sentence


@pytest.mark.parametrize(
    ("only_a", "only_b", "words"),
    [(30, 5, "more than chance: a is better"), (5, 30, "b is better"), (9, 6, "CANNOT BE TOLD FROM CHANCE")],
)
def test_words_go_with_the_numbers(only_a: int, only_b: int, words: str) -> None:
    ones = np.ones(1, bool)
    a = np.repeat([*ones, *ones, *~ones, *~ones], [50, only_a, only_b, 10])
    b = np.repeat([*ones, *~ones, *ones, *~ones], [50, only_a, only_b, 10])
    assert words in Comparison.of(a, b).sentence


RECORDINGS = [ScoredRecording(f"{index}.wav", f"{index:032}", "1", int(index >= 10)) for index in range(20)]


def scores(*confusions: list[list[int]], recordings: list[ScoredRecording] = RECORDINGS) -> Scores:
    """Of twenty recordings, ten of a class, in the order of their labels."""
    names = ("checkpoint", "random network")
    found = [score_of(name, confusion) for name, confusion in zip(names, confusions, strict=False)]
    return Scores("folder", "", ["low", "high"], None, recordings, found)


def test_recordings_are_known_by_their_bytes_in_any_order_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = scores([[9, 1], [0, 10]])
    moved = [replace(each, name=f"elsewhere/{each.name}", label=1 - each.label) for each in RECORDINGS]
    (score,) = one.scores
    other = replace(
        one,
        classes=["high", "low"],
        recordings=moved[::-1],
        scores=[replace(score, predicted=[1 - (label or 0) for label in score.predicted[::-1]], seed=3)],
    )
    one.save(tmp_path / "a")
    other.save(tmp_path / "b")
    run(CompareSettings(tmp_path / "a" / "scores.json", tmp_path / "b"))
    assert "of 20 recordings 0 are named rightly by a alone and 0 by b alone" in capsys.readouterr().out


def test_two_scores_of_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scores([[10, 0], [0, 10]], [[3, 7], [2, 8]]).save(tmp_path)
    run(CompareSettings(file, file, "checkpoint", "random"))
    printed = capsys.readouterr().out
    assert "9 are named rightly by a alone and 0 by b alone" in printed
    assert "p = 0.0039. That is more than chance: a is better." in printed  # 2 / 2^9
    with pytest.raises(UserError, match=r"has 2 scores and one is compared: .*random network pool5 linear SVM: 55\.0%"):
        run(CompareSettings(file, file))
    with pytest.raises(UserError, match="are the same score"):
        run(CompareSettings(file, file, "checkpoint"))


def test_other_recordings_or_classes_are_refused(tmp_path: Path) -> None:
    scores([[9, 1], [0, 10]]).save(tmp_path / "a")
    other = [*RECORDINGS[:-1], replace(RECORDINGS[-1], digest="f" * 32, name="new.wav")]
    scores([[9, 1], [0, 10]], recordings=other).save(tmp_path / "b")
    with pytest.raises(UserError, match=r"a tests 20 .* and b 20; 1 are not among .* \(first 19\.wav, high\)"):
        run(CompareSettings(tmp_path / "a", tmp_path / "b"))
    relabelled = [replace(RECORDINGS[0], label=1), *RECORDINGS[1:]]
    scores([[9, 1], [0, 10]], recordings=relabelled).save(tmp_path / "b")
    with pytest.raises(UserError, match=r"\(first 0\.wav, low\)"):
        run(CompareSettings(tmp_path / "a", tmp_path / "b"))


def test_a_file_of_another_name_is_told_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(UserError, match=r"mine\.json is a file of another name: give the scores\.json"):
        run(CompareSettings(tmp_path / "mine.json", tmp_path))


def test_the_command(tmp_path: Path) -> None:
    file = scores([[10, 0], [0, 10]], [[3, 7], [2, 8]]).save(tmp_path)
    done = python("-m", "evaluate.probe.compare", f"a={file}", f"b={tmp_path}", "of_a=checkpoint", "of_b=random")
    assert done.returncode == 0 and "a is better" in done.stdout
    done = python("-m", "evaluate.probe.compare", f"a={file}", f"b={tmp_path / 'none'}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
