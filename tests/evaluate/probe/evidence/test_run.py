"""`make evidence` on shards whose labels follow the sound and on shards whose labels do not; and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.probe.evidence.run import EvidenceSettings, run
from shards.errors import UserError
from shards.format.manifest import TeacherCard
from tests.forked import python
from tests.shards.conftest import CLIP, MakeShards, write_shards
from tests.train.conftest import write_tones
from train.checkpoint.checkpoint import Checkpoint, load, save
from train.model.layers import Layer, StudentSpec
from train.model.student import Student

CARD = TeacherCard("none", "none", "", {}, tuple("abcdefg"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights of foreign origin: nobody says that they were trained on these shards."""
    spec = StudentSpec("small", [Layer("conv1", 64, 8, 32, 16), Layer("pool1", 16, 16)], Layer("conv2", 3, 1))
    network = Student(spec, {"objects": 7}, sample_rate=CLIP.sample_rate)
    save(tmp_path / "small.pt", Checkpoint(spec, CLIP, {"objects": CARD}, network.state_dict()))
    return tmp_path / "small.pt"


def videos(write: MakeShards, folder: Path, *, train: int, validation: int = 0) -> str:
    """Shards of two clips, each of one video."""
    counts = {"train": train, "validation": validation}
    shards = {f"{split}-{shard:06}": 2 for split, count in counts.items() for shard in range(count)}
    return str(write(folder, shards, heads={"objects": 7}))


def findings(settings: EvidenceSettings) -> dict:
    run(settings)
    assert settings.out is not None and (settings.out / "evidence.png").stat().st_size > 10_000
    (head,) = json.loads((settings.out / "evidence.json").read_bytes())["heads"]
    return head


@pytest.fixture
def settings(checkpoint: Path, tmp_path: Path) -> EvidenceSettings:
    return EvidenceSettings("?", checkpoint, "pool1", components=8, shuffles=19, seeds=1, out=tmp_path / "out")


def test_tones_that_labels_name_are_found(
    settings: EvidenceSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = videos(write_tones, tmp_path / "tones", train=44, validation=41)
    head = findings(replace(settings, shards=shards))
    assert head["verdict"] == "found" and head["videos"] == 41 and head["p"] == 0.05
    printed = capsys.readouterr().out
    assert "170 clips of 85 videos; the shards' own splits, 44 videos to learn from and 41 to test on" in printed
    assert "SOUND TELLS WHAT IS SEEN" in printed and "shuffled, 19 seeds" in printed and "random network 0" in printed


def test_noise_says_nothing_and_folds_stand_in_for_a_split(
    settings: EvidenceSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = findings(replace(settings, shards=videos(write_shards, tmp_path / "noise", train=42, validation=3)))
    assert head["verdict"] == "nothing" and head["videos"] == 45 and head["clips"] == 90
    assert "5 folds of all videos, as no more than 3 are held out" in capsys.readouterr().out


def test_a_trained_student_is_not_tested_on_what_it_may_have_learned(
    settings: EvidenceSettings, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(checkpoint, replace(load(checkpoint), position={"step": 9, "consumed": 90}))
    head = findings(replace(settings, shards=videos(write_tones, tmp_path / "tones", train=42, validation=3)))
    assert head["verdict"] == "too few" and head["videos"] == 3
    assert "TOO FEW VIDEOS TO SAY ANYTHING: 3 to test on" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no video of these shards is held out, and .*small\.pt may have learned"):
        run(replace(settings, shards=videos(write_tones, tmp_path / "all", train=12)))


def test_what_cannot_be_measured_is_refused_in_one_line(
    settings: EvidenceSettings, checkpoint: Path, tmp_path: Path
) -> None:
    few = videos(write_tones, tmp_path / "few", train=9)
    with pytest.raises(UserError, match=r"9 videos are there to learn from, which is too few: at least 10 are needed"):
        run(replace(settings, shards=few))
    with pytest.raises(UserError, match=r"small has no layer pool9: choose among conv1, pool1, conv2"):
        run(replace(settings, shards=videos(write_tones, tmp_path / "enough", train=10), layer="pool9"))
    with pytest.raises(UserError, match="holds no clip to learn from"):
        run(replace(settings, shards=videos(write_tones, tmp_path / "none", train=0, validation=2)))
    with pytest.raises(ValueError, match=r"streaming\.reader=direct alone"):
        replace(settings, streaming=replace(settings.streaming, reader="webdataset"))
    spec = StudentSpec("other", [Layer("conv1", 8, 8, 4, 4), Layer("pool1", 4, 4)], Layer("conv2", 3, 1))
    network = Student(spec, {"objects": 7}, sample_rate=8000)
    save(checkpoint, Checkpoint(spec, replace(CLIP, sample_rate=8000), {"objects": CARD}, network.state_dict()))
    with pytest.raises(UserError, match=r"few has 1000 Hz, .*small\.pt wants 8000 Hz"):
        run(replace(settings, shards=few))


@pytest.mark.faults  # slow: networks of the full size
def test_the_command(checkpoint: Path, tmp_path: Path) -> None:
    words = [f"shards={videos(write_tones, tmp_path / 'tones', train=12)}", f"checkpoint={checkpoint}", "layer=pool1"]
    done = python("-m", "evaluate.probe.evidence", *words, "shuffles=19", "seeds=0", f"out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "TOO FEW VIDEOS TO SAY ANYTHING: 12 to test on" in done.stdout
    done = python("-m", "evaluate.probe.evidence", *words, "shuffles=9")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "give at least 19" in done.stderr
