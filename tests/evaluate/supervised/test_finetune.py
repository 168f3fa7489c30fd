"""Fine-tuning on a folder per class: learned, tested on what was held out, and fit for every other command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.probe.run import EvaluateSettings, evaluate
from evaluate.probe.scores import Scores
from evaluate.supervised.finetune import NAME, FinetuneSettings, run
from shards.errors import UserError
from train.checkpoint import hub
from train.checkpoint.checkpoint import Checkpoint, build, load, load_student, save
from train.checkpoint.export import ExportSettings
from train.checkpoint.export import run as run_export
from train.model.layers import Layer, StudentSpec
from train.model.student import Student, scaled

RATE = 8000
SMALL = StudentSpec("small", [Layer("conv1", 64, 8, 32, 8), Layer("pool1", 32, 32)], Layer("conv2", 8, 4))
COUNTS = {"high": 5, "low": 15}
TONES = {"high": 2700.0, "low": 300.0}  # Hz


@pytest.fixture
def settings(tmp_path: Path, checkpoint: Path) -> FinetuneSettings:
    """Tones in a folder per class, three times as many low ones as high ones."""
    start = load(checkpoint)
    network = Student(SMALL, start.heads, sample_rate=RATE)
    save(tmp_path / "start.pt", replace(start, spec=SMALL, network=network.state_dict()))
    random = np.random.default_rng(0)
    for category, count in COUNTS.items():
        (tmp_path / "sounds" / category).mkdir(parents=True)
        for index in range(count):
            time = np.arange(RATE) / RATE
            sound = 0.3 * np.sin(2 * np.pi * TONES[category] * random.uniform(0.9, 1.1) * time)
            soundfile.write(tmp_path / "sounds" / category / f"{index}.wav", sound + random.normal(0, 0.02, RATE), RATE)
    folder = BenchmarkSpec("folder", "folder", seconds=1.0, window_seconds=0.5)
    return FinetuneSettings(
        folder, tmp_path / "sounds", tmp_path / "start.pt", seconds=0.5, steps=60, batch=8, lr=0.01, device="cpu",
        compile=False, out=tmp_path / "run",
    )  # fmt: skip


def test_classes_are_learned_and_the_checkpoint_records_them(
    settings: FinetuneSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    printed = capsys.readouterr().out
    assert "100.0% of 4 held-out recordings named rightly" in printed
    assert "75.0% by always saying low, the most frequent class" in printed
    (score,) = Scores.load(tmp_path / "run").scores
    assert score.value == 1.0 and score.per_class == {"high": 1.0, "low": 1.0}

    student, learned = load_student(tmp_path / "run" / NAME)
    assert learned.teachers["classes"].classes == ("high", "low")
    assert learned.training_mean is not None and learned.training_mean["classes"].tolist() == [0.25, 0.75]
    assert learned.held_out == {"step": 60, "clips": 4, "mean": {"classes/top1": 1.0, "classes/top1_mean": 0.75}}
    tone = (9000 * np.sin(2 * np.pi * TONES["high"] * np.arange(learned.clip.samples) / RATE)).astype(np.int16)
    with torch.inference_mode():  # one clip as long as the checkpoint says, as make tag asks
        assert int(student(scaled(torch.from_numpy(tone))[None])["classes"][0, :, 0].argmax()) == 0
    card = (tmp_path / "run" / "card.md").read_text()
    assert "names 100.0% of 4 held-out recordings rightly" in card and "labels of 2 classes" in card
    assert "start.pt (" in card and str(tmp_path) not in card

    run(settings)
    assert "step" not in capsys.readouterr().out  # it is there already
    with pytest.raises(UserError, match=r"steps: .*finetuned\.pt has 60, this run 70\. Delete"):
        run(replace(settings, steps=70))


def test_what_it_learned_from_is_no_test_wherever_it_lies(settings: FinetuneSettings, tmp_path: Path) -> None:
    run(replace(settings, steps=2))
    shutil.copytree(tmp_path / "sounds", tmp_path / "moved")
    (tmp_path / "moved" / "low" / "3.wav").rename(tmp_path / "moved" / "low" / "called otherwise.wav")
    probe = EvaluateSettings(
        settings.benchmark, tmp_path / "moved", SMALL, tmp_path / "run" / NAME, layer="pool1", C=0.01, cache=tmp_path
    )
    with pytest.raises(UserError, match=r"labels of sounds, and 16 of the recordings .*take another checkpoint"):
        evaluate(probe)
    for path in sorted((tmp_path / "moved").rglob("*.wav")):  # the same sounds as other files
        sound, _ = soundfile.read(path)
        soundfile.write(path, 0.5 * sound, RATE)
    assert evaluate(probe).scores[0].recordings == 20


def test_takes_of_one_source_are_held_out_together(
    settings: FinetuneSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(replace(settings, steps=2, out=tmp_path / "ungrouped"))
    assert "no groups: takes of one source may be on both sides" in capsys.readouterr().out
    for category, count in COUNTS.items():
        for index in range(count):
            folder = settings.root / category / f"{category}-{index // 2}"
            folder.mkdir(exist_ok=True)
            (settings.root / category / f"{index}.wav").rename(folder / f"{index}.wav")
    run(replace(settings, steps=2))
    assert "11 groups, each on one side of every split" in capsys.readouterr().out
    learned = set(load(tmp_path / "run" / NAME).config["supervised"]["recordings"])
    found = Scores.load(tmp_path / "run")
    sides = {each.group: set() for each in found.recordings}
    for each in found.recordings:
        sides[each.group].add(each.digest in learned)
    assert len(sides) == 11 and all(len(side) == 1 for side in sides.values())
    assert found.grouping == "11 groups, each on one side of every split"


def test_data_that_was_changed_is_not_taken_for_the_old(settings: FinetuneSettings, tmp_path: Path) -> None:
    run(replace(settings, steps=2))
    (tmp_path / "sounds" / "low" / "14.wav").unlink()
    with pytest.raises(UserError, match=r"data: .*Delete .*finetuned\.pt to train it again"):
        run(replace(settings, steps=2))


def test_what_cannot_be_learned_is_refused_in_one_line(settings: FinetuneSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folds=9: sounds tests the folds 1, 2, 3, 4, 5"):
        run(replace(settings, hold_out="9"))
    (tmp_path / "sounds" / "lonely").mkdir()
    shutil.copy(tmp_path / "sounds" / "low" / "1.wav", tmp_path / "sounds" / "lonely" / "1.wav")
    with pytest.raises(UserError, match=r"lonely: all recordings are in fold 1, which is held out"):
        run(settings)
    autoencoder = load(settings.checkpoint)
    layers = [Layer(f"conv{index}", 4, 2, 1, 4) for index in (1, 2, 3, 4)]
    spec = StudentSpec("echo", layers, Layer("conv5", 2, 1), kind="autoencoder")
    network = build(spec, {}, sample_rate=RATE).state_dict()
    save(tmp_path / "echo.pt", Checkpoint(spec=spec, clip=autoencoder.clip, teachers={}, network=network))
    with pytest.raises(UserError, match="holds an autoencoder, which has no heads"):
        run(replace(settings, checkpoint=tmp_path / "echo.pt"))


def test_it_takes_a_checkpoint_of_hugging_face_as_the_same_file(
    settings: FinetuneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_export(ExportSettings(settings.checkpoint, "hub", tmp_path / "on the hub"))
    monkeypatch.setattr(hub, "_fetched", lambda name, revision: tmp_path / "on the hub")
    for checkpoint, out in ((settings.checkpoint, "a"), (Path("anybody/net@v1"), "b")):
        run(replace(settings, checkpoint=checkpoint, out=tmp_path / out, steps=2))
    one, other = load(tmp_path / "a" / NAME).network, load(tmp_path / "b" / NAME).network
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
