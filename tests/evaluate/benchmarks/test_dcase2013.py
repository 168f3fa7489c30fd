"""A data set in the layout of DCASE 2013, made of ESC-10's real recordings: joined to 30 s of stereo, folds apart."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.probe.run import EvaluateSettings, evaluate
from shards.cli.command import compose
from shards.errors import UserError
from shards.media.waveform import read_waveform
from train.model.layers import StudentSpec

RATE = 8000  # as the tiny student hears; DCASE has 44,100
PER_CLASS = 2  # DCASE has 10
SPEC = replace(compose(BenchmarkSpec, "benchmark/dcase2013"), per_class=PER_CLASS)
FOLDS = {"scenes_stereo": ("1", "2"), "scenes_stereo_testset": ("4", "5")}


@pytest.fixture(scope="module")
def made(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each file joins two recordings of one ESC-10 class, in turn, from folds that the other folder does not touch."""
    source, root = shared / "data" / "esc10", tmp_path_factory.mktemp("dcase")
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    with open(source / "meta" / "esc50.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            found[row["category"], row["fold"]].append(row["filename"])
    categories = sorted({category for category, _ in found})
    for folder, folds in FOLDS.items():
        (root / folder).mkdir()
        for scene, category in zip(SPEC.classes, categories, strict=True):
            for number in range(PER_CLASS):
                pair = [read_waveform(source / "audio" / found[category, fold][number], RATE) for fold in folds]
                joined = np.resize(np.concatenate(pair), 30 * RATE)
                stereo = np.stack([joined, joined // 2], axis=1)
                soundfile.write(root / folder / f"{scene}{number + 1:02}.wav", stereo, RATE)
    return root


@pytest.fixture
def settings(made: Path, tmp_path: Path, checkpoint: Path, tiny: StudentSpec) -> EvaluateSettings:
    root = tmp_path / "dcase"
    for path in made.glob("*/*.wav"):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).symlink_to(path)
    return EvaluateSettings(SPEC, root, tiny, checkpoint, layer="conv3", C=0.01, cache=tmp_path / "cache")


def test_a_scene_is_recognised(settings: EvaluateSettings) -> None:
    student, mfcc = evaluate(replace(settings, baselines=["mfcc"])).scores
    assert student.windows["count"] == 40  # the output layer is taken whole
    assert list(student.per_fold) == ["test"] and student.recordings == mfcc.recordings == 20
    assert mfcc.accuracy > 0.4  # ten classes; real sounds of one class resemble each other


def line_of(settings: EvaluateSettings) -> str:
    with pytest.raises(UserError) as caught:
        evaluate(settings)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_wrong_count(settings: EvaluateSettings) -> None:
    (settings.root / "scenes_stereo_testset" / "tube02.wav").unlink()
    line = line_of(settings)
    assert "has 1 recordings of tube in fold test, dcase2013 has 2. Get the DCASE 2013 scene recordings" in line


def test_a_missing_class(settings: EvaluateSettings) -> None:
    for path in settings.root.glob("*/tube0*.wav"):
        path.unlink()
    assert "has no recordings of tube (1 of the 10 classes of dcase2013)" in line_of(settings)


def test_a_truncated_file(settings: EvaluateSettings) -> None:
    path = settings.root / "scenes_stereo" / "park01.wav"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    line = line_of(settings)
    assert str(path) in line and "its header promises 30.00 s of sound, the file has 15.00 s" in line


def test_a_shortened_file(settings: EvaluateSettings) -> None:
    path = settings.root / "scenes_stereo" / "park01.wav"
    sound, rate = soundfile.read(path)
    path.unlink()
    soundfile.write(path, sound[: 12 * rate], rate)
    assert "park01.wav has 12.00 s of sound, the recordings of dcase2013 have 30 s: get this file" in line_of(settings)


def test_an_empty_folder(settings: EvaluateSettings) -> None:
    for path in settings.root.glob("scenes_stereo/*"):
        path.unlink()
    line = line_of(settings)
    assert f"{settings.root / 'scenes_stereo'} holds no recordings" in line and "scenes_stereo.zip" in line
