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
from shards.media.waveform import read_waveform
from train.model.layers import StudentSpec

RATE = 8000  # of the tiny student; DCASE has 44,100
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


@pytest.mark.faults
def test_a_scene_is_recognised(made: Path, tmp_path: Path, checkpoint: Path, tiny: StudentSpec) -> None:
    settings = EvaluateSettings(
        SPEC, made, tiny, checkpoint, layer="conv3", C=0.01, baselines=["mfcc"], cache=tmp_path / "cache"
    )
    student, mfcc = evaluate(settings).scores
    assert student.windows["count"] == 40  # the output layer is taken whole
    assert list(student.per_fold) == ["test"] and student.recordings == mfcc.recordings == 20
    assert mfcc.value > 0.4  # ten classes; real sounds of one class resemble each other
