"""A small benchmark and a student of three layers: enough to run, cut, classify and count in seconds."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.probe.scores import ACCURACY, Score, wilson
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import Checkpoint, save
from train.model.layers import Layer, StudentSpec
from train.model.student import Student

RATE = 8000
ESC10 = ["benchmark=esc10", "benchmark.classes=[low,middle,high]", "benchmark.folds=['1','2','3']", "layer=conv2"]
ESC10 += ["C=0.01", "benchmark.per_class=2", "benchmark.seconds=1", "benchmark.window_seconds=0.4"]  # of `esc_root`
TONES = {"low": 300.0, "middle": 900.0, "high": 2700.0}  # Hz


@pytest.fixture(scope="session")
def tiny() -> StudentSpec:
    """8,000 Hz, 1 s: 2,001 steps of conv1, 250 of pool1, 63 of conv2, 14 of the output."""
    layers = [Layer("conv1", 16, 4, 8, 6), Layer("pool1", 8, 8), Layer("conv2", 8, 4, 4, 8)]
    return StudentSpec("tiny", layers, Layer("conv3", 8, 4))


@pytest.fixture(scope="session")
def checkpoint(tiny: StudentSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student with batch-norm statistics of some tones but no training, as `make train` would save it."""
    path = tmp_path_factory.mktemp("student") / "tiny.pt"
    card = TeacherCard("none", "none", "", {}, ("a", "b", "c"))
    clip = ClipSpec(sample_rate=RATE, seconds=2.0, windows=1)
    student = Student(tiny, {"objects": 3}, sample_rate=RATE)
    tones = np.stack([tone(category, 99, seconds=2.0) for category in TONES])
    with torch.no_grad():
        for _ in range(100):  # until batch norm's statistics are theirs
            student(256 * torch.from_numpy(tones).float())
    save(path, Checkpoint(tiny, clip, {"objects": card}, student.state_dict()))
    return path


def tone(category: str, seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """A category's tone in noise, float (samples,)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    noise = generator.normal(0, 0.05, len(time))
    return 0.3 * np.sin(2 * np.pi * TONES[category] * generator.uniform(0.9, 1.1) * time) + noise


def score_of(features: str, confusion: list[list[int]], seed: int | None = None, layer: str = "pool5") -> Score:
    """A linear SVM's; its accuracy and interval are those of the confusion."""
    right, total = int(np.trace(confusion)), int(np.sum(confusion))
    predicted = [column for row in confusion for column, count in enumerate(row) for _ in range(count)]
    behind = ({"test": right / total}, {}, confusion, {}, True, [], {}, 1.0, predicted, [[] for _ in predicted])
    return Score("folder", features, "linear SVM", layer, seed, right / total, ACCURACY, wilson(right, total), *behind)


@pytest.fixture
def esc_spec() -> BenchmarkSpec:
    return BenchmarkSpec(
        "esc-tiny", "esc", 1.0, 0.4, classes=list(TONES), folds=["1", "2", "3"], per_class=2, source="ESC-tiny"
    )


@pytest.fixture
def esc_root(tmp_path: Path) -> Path:
    """The ESC-50 repository's layout: two recordings of each of three classes, and of a foreign one, in three folds."""
    root = tmp_path / "esc"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rows = []
    for fold in (1, 2, 3):
        for index, category in enumerate([*TONES, "low"]):
            for take in "AB":
                foreign = index == len(TONES)
                name = f"{fold}-{index}-{take}.wav"
                soundfile.write(root / "audio" / name, tone(category, 10 * fold + index + 5 * (take == "A"), 0.7), RATE)
                rows.append((name, fold, index, "foreign" if foreign else category))
    with open(root / "meta" / "esc50.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("filename", "fold", "target", "category"), *rows])
    return root


@pytest.fixture
def rewrite_table(esc_root: Path) -> Callable[[Callable[[list[str]], list[str]]], None]:
    """Puts other lines into the ESC table; the header is the first."""

    def rewrite(change: Callable[[list[str]], list[str]]) -> None:
        path = esc_root / "meta" / "esc50.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return rewrite
