"""A checkpoint at work: what it has learned from is refused as a test; its origin in a few words; one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.model import SUPERVISED, EvaluatedModel, run_layers
from shards.cli.command import compose
from shards.errors import ContractError
from train.checkpoint.checkpoint import load, save
from train.device.device import require_device
from train.model.layers import StudentSpec
from train.model.student import SCALE, Student, scaled


def test_esc10_is_a_part_of_esc50(checkpoint: Path, tmp_path: Path, shared: Path) -> None:
    benchmark = load_benchmark(compose(BenchmarkSpec, "benchmark/esc10"), shared / "data" / "esc10")
    supervised = load(checkpoint)
    digests = [recording.digest for recording in benchmark.recordings if recording.fold != "5"]
    supervised.config[SUPERVISED] = {"benchmark": "esc50", "recordings": digests}
    save(tmp_path / "supervised.pt", supervised)
    with pytest.raises(ContractError, match=r"folds=\[5\]"):
        EvaluatedModel.load(tmp_path / "supervised.pt").require_unseen(benchmark)
    EvaluatedModel.load(tmp_path / "supervised.pt").require_unseen(benchmark.restricted(["5"]))


def test_its_provenance_is_training_or_a_source(checkpoint: Path, tmp_path: Path) -> None:
    assert str(EvaluatedModel.load(checkpoint)) == "tiny.pt (of unknown origin)"
    foreign = load(checkpoint)
    foreign.config["source"] = "the authors' weights"
    save(tmp_path / "foreign.pt", foreign)
    assert EvaluatedModel.load(tmp_path / "foreign.pt").provenance == "the authors' weights"


def test_one_pass_takes_the_samples_as_they_are_stored(checkpoint: Path) -> None:
    network = EvaluatedModel.load(checkpoint).network
    waveforms = np.random.default_rng(0).integers(-9000, 9000, (2, 4000)).astype(np.int16)
    found = run_layers(network, waveforms, ["conv2", "pool1"])
    with torch.no_grad():
        expected = network.features(torch.from_numpy(waveforms / np.float32(32768) * np.float32(SCALE)), ["conv2"])
    assert list(found) == ["conv2", "pool1"] and found["conv2"].dtype == np.float32
    np.testing.assert_allclose(found["conv2"], expected["conv2"], atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_computes_what_a_cpu_computes(tmp_path: Path) -> None:
    """SoundNet8 of random weights, to 1e-4 of each layer's largest value: float32 throughout, no TF32 (1e-3)."""
    spec = compose(StudentSpec, "student/soundnet8")
    student = Student(spec, {"objects": 10, "scenes": 4}, sample_rate=22_050)
    waveforms = np.random.default_rng(0).integers(-9000, 9000, (2, 10 * 22_050)).astype(np.int16)
    with torch.no_grad():
        student(scaled(torch.from_numpy(waveforms)))
    student.eval()
    layers = student.layers
    wanted = run_layers(student, waveforms, layers)
    require_device("cuda")
    found = run_layers(student.to("cuda"), waveforms, layers)
    for layer in layers:
        assert np.abs(found[layer] - wanted[layer]).max() < 1e-4 * np.abs(wanted[layer]).max(), layer
