"""The random network's batch-norm statistics are those of its training recordings, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.untrained import RandomInit, normalised, untrained_source
from train.model.layers import StudentSpec
from train.model.student import scaled


def test_statistics_against_a_direct_computation(tiny: StudentSpec, esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    recordings = Recordings(load_benchmark(esc_spec, esc_root), 8000)
    train = recordings.benchmark.splits()[0].train
    network = normalised(RandomInit(tiny, {"objects": 3}, seed=3), recordings, train)
    waveforms = torch.from_numpy(np.stack([recordings.repeated(index) for index in train]))
    first = network.blocks["conv1"]
    with torch.no_grad():
        outputs = first.conv(scaled(waveforms)[:, None]).double()
    np.testing.assert_allclose(first.norm.running_mean, outputs.mean(dim=(0, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(first.norm.running_var, outputs.var(dim=(0, 2)), rtol=1e-3)
    assert not network.training


def test_each_split_has_its_own_network(tiny: StudentSpec, esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    recordings = Recordings(load_benchmark(esc_spec, esc_root), 8000)
    splits = recordings.benchmark.splits()

    def values(seed: int, split: int) -> np.ndarray:
        source = untrained_source(RandomInit(tiny, {"objects": 3}, seed), recordings, ["conv2"])
        return source.of(splits[split])["conv2"].values

    assert np.array_equal(values(0, 0), values(0, 0))
    assert not np.allclose(values(0, 0), values(0, 1), rtol=1e-3)
    assert not np.allclose(values(0, 0), values(1, 0), rtol=1e-1)
