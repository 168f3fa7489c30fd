"""Held-out videos and the probe in words: the numbers are those of the files, and a failure is called one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluate.demo.results import Evidence, HeldOut, Probe
from evaluate.probe.scores import Score, ScoredRecording, Scores
from shards.errors import UserError
from tests.evaluate.conftest import score_of


def validation(path: Path, student: float = 0.5) -> Path:
    """Two videos as train/ writes them; the second is no nearer than a uniform guess."""
    measures = {"objects/kl_mean": 1.5, "objects/kl_uniform": 3.0, "objects/top1": 0.1}
    videos = [
        {"video": "cat%2F%5Bred%5D%2Emp4", "clips": 2, "objects/kl": 0.25, **measures},
        {"video": "dog%2Emp4", "clips": 1, "objects/kl": 3.25, **measures},
    ]
    mean = {"objects/kl": student, **measures}
    path.write_text(json.dumps({"step": 80, "clips": 3, "mean": mean, "videos": videos}))
    return path


def write_evidence(folder: Path, sha256: str) -> Path:
    """One head as `make evidence` writes it."""
    folder.mkdir(exist_ok=True)
    heads = [{"head": "objects", "sentences": ["objects: NOTHING FOUND: <b>x</b>.", "objects: so it is."]}]
    (folder / "evidence.json").write_text(json.dumps({"checkpoint": {"sha256": sha256}, "heads": heads}))
    (folder / "evidence.png").write_bytes(b"a picture")
    return folder


def score(features: str, right: int, total: int = 10, seed: int | None = None) -> Score:
    return score_of(features, [[right, total - right], [0, 0]], seed)


def probe(student: int, random: int, total: int = 10) -> Probe:
    scores = [score("checkpoint", student, total), score("random network", random, total, seed=0)]
    recordings = [ScoredRecording(str(index), str(index), "test", 0) for index in range(total)]
    return Probe.of(Scores("folder", "", ["a", "b"], None, recordings, scores))


def test_distances_are_those_of_the_file(tmp_path: Path) -> None:
    found = HeldOut.load(validation(tmp_path / "validation.json"), "objects")
    assert [(video.video, video.clips, video.student) for video in found.videos] == [
        ("cat/[red].mp4", 2, 0.25),
        ("dog.mp4", 1, 3.25),
    ]
    assert [video.is_nearest for video in found.videos] == [True, False]
    assert (found.step, found.total.student, found.total.mean, found.total.uniform) == (80, 0.5, 1.5, 3.0)
    assert "nearer than both on 1 of 2 videos" in found.summary and "NO" not in found.summary


def test_a_student_that_learned_nothing_is_called_so(tmp_path: Path) -> None:
    assert "NO better" in HeldOut.load(validation(tmp_path / "validation.json", student=1.6), "objects").summary


def test_a_missing_or_foreign_validation_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        HeldOut.load(tmp_path / "validation.json", "objects")
    with pytest.raises(UserError, match="no validation of scenes"):
        HeldOut.load(validation(tmp_path / "validation.json"), "scenes")


def test_evidence_is_that_of_the_file(tmp_path: Path) -> None:
    found = Evidence.load(write_evidence(tmp_path / "evidence", "abc"), "objects")
    assert (found.sentences[1], found.picture, found.checkpoint_sha256) == ("objects: so it is.", b"a picture", "abc")


def test_missing_or_foreign_evidence_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no evidence on objects"):
        Evidence.load(tmp_path, "objects")
    with pytest.raises(UserError, match="no evidence on scenes"):
        Evidence.load(write_evidence(tmp_path, "abc"), "scenes")
    (tmp_path / "evidence.json").write_text("[")
    with pytest.raises(UserError, match="no evidence on objects"):
        Evidence.load(tmp_path, "objects")


@pytest.mark.parametrize(
    ("student", "random", "total", "words"),
    [
        (10, 10, 10, "too easy"),
        (6, 6, 10, "NO gain"),
        (5, 7, 10, "NO gain"),
        (9, 7, 10, "too few to tell that from chance (McNemar, p = 0.5)"),  # 2 / 2^2: two recordings differ
        (97, 90, 100, "more than chance (McNemar, p = 0.016)"),  # 2 / 2^7; the two intervals overlap
    ],
)
def test_the_probe_says_whether_training_shows(student: int, random: int, total: int, words: str) -> None:
    summary = probe(student, random, total).summary
    assert words in summary and "nothing about natural sound" in summary


def test_a_probe_has_a_student_and_a_random_network() -> None:
    with pytest.raises(UserError, match="not 1 and 0"):
        Probe.of(Scores("folder", "", ["a", "b"], None, [], [score("checkpoint", 3)]))
    assert probe(3, 2).chance == 0.5
