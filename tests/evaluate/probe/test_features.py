"""Features of whole recordings: in batches and from the cache as one by one, and excerpts heard by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.features import Extractor, batches, excerpts
from evaluate.probe.windows import cut_for
from shards.errors import UserError
from train.checkpoint.checkpoint import load_network
from train.model.student import Trunk, scaled


@pytest.fixture
def network(checkpoint: Path) -> Trunk:
    torch.set_num_threads(1)
    return load_network(checkpoint)[0]


@pytest.fixture
def sounds(esc_spec: BenchmarkSpec, esc_root: Path) -> Recordings:
    return Recordings(load_benchmark(esc_spec, esc_root), 8000)


class Counting(torch.nn.Module):
    """A network that counts how often it is asked."""

    def __init__(self, network: Trunk) -> None:
        super().__init__()
        self.network, self.asked = network, 0

    def __getattr__(self, name: str) -> object:
        return super().__getattr__(name) if name in ("network",) else getattr(self.network, name)

    def features(self, waveform: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        self.asked += 1
        return self.network.features(waveform, layers)


def one_by_one(network: Trunk, sounds: Recordings, layer: str) -> np.ndarray:
    cut = cut_for(network, layer, seconds=1.0, window_seconds=0.4)
    parts = []
    for index in range(len(sounds.waveforms)):
        waveform = torch.from_numpy(sounds.repeated(index)).unsqueeze(0)
        with torch.no_grad():
            parts.append(cut(network.features(scaled(waveform), [layer])[layer][0].numpy()))
    return np.concatenate(parts)


def test_batched_as_one_by_one_in_one_pass(network: Trunk, sounds: Recordings, tmp_path: Path) -> None:
    counting = Counting(network)
    found = Extractor(counting, None, tmp_path).extract(sounds, ["conv2", "pool1", "conv3"])  # type: ignore[arg-type]
    assert list(found) == ["conv2", "pool1", "conv3"] and counting.asked == 1  # 18 s of sound are one batch
    for layer, windows in found.items():
        np.testing.assert_allclose(windows.values, one_by_one(network, sounds, layer), atol=1e-5)
        assert np.unique(windows.recordings).tolist() == list(range(18))
    assert not list(tmp_path.rglob("*.npz"))  # it has no identity


def test_what_is_kept_is_not_heard_again(network: Trunk, sounds: Recordings, tmp_path: Path) -> None:
    counting = Counting(network)
    extractor = Extractor(counting, "weights", tmp_path)  # type: ignore[arg-type]
    first = extractor.extract(sounds, ["conv2"])["conv2"]
    again = extractor.extract(Recordings(sounds.benchmark, 8000), ["conv2"])["conv2"]
    assert counting.asked == 1 and np.array_equal(first.values, again.values)
    extractor.extract(sounds, ["conv2", "pool1"])
    assert counting.asked == 2
    Extractor(counting, "other weights", tmp_path).extract(sounds, ["conv2"])  # type: ignore[arg-type]
    assert counting.asked == 3
    (kept,) = [path for path in tmp_path.glob("*/conv2.npz") if (path.parent / "pool1.npz").is_file()]
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: heard again, not believed
    assert np.array_equal(extractor.extract(sounds, ["conv2"])["conv2"].values, first.values)


def test_windows_of_another_length_come_from_the_same_features(
    network: Trunk, sounds: Recordings, tmp_path: Path
) -> None:
    counting = Counting(network)
    extractor = Extractor(counting, "weights", tmp_path)  # type: ignore[arg-type]
    extractor.extract(sounds, ["conv2"])
    shorter = replace(sounds.benchmark, spec=replace(sounds.benchmark.spec, window_seconds=0.2))
    found = extractor.extract(Recordings(shorter, 8000), ["conv2"])["conv2"]
    assert counting.asked == 1 and found.values.shape[1] == 8 * 13  # ceil(0.2 * 63) steps of 8 channels


def test_excerpts_are_heard_by_themselves(network: Trunk, sounds: Recordings, tmp_path: Path) -> None:
    found = Extractor(network, None, tmp_path, windows="waveform").extract(sounds, ["conv2"])["conv2"]
    waveform = sounds.repeated(4)
    pieces = [waveform[start : start + 3200] for start in range(0, 8000 - 3200 + 1, 2972)]  # 0.37 s apart
    assert np.array_equal(excerpts(sounds, 4), pieces)
    with torch.no_grad():
        expected = [
            network.features(scaled(torch.from_numpy(piece)[None]), ["conv2"])["conv2"].numpy() for piece in pieces
        ]
    np.testing.assert_allclose(found.of(np.array([4])).values, np.stack(expected).reshape(2, -1), atol=1e-5)


def test_too_short_excerpts_are_refused_before_any_work(network: Trunk, sounds: Recordings, tmp_path: Path) -> None:
    short = replace(sounds.benchmark, spec=replace(sounds.benchmark.spec, window_seconds=0.02))
    with pytest.raises(UserError, match="conv3 of tiny needs at least"):
        Extractor(network, None, tmp_path, windows="waveform").extract(Recordings(short, 8000), ["conv3"])


def test_batches_hold_one_length_each(sounds: Recordings) -> None:
    sounds.__dict__["waveforms"] = [np.zeros(length, np.int16) for length in (9000, 5000, 8500, 9000, 7000)]
    found = list(batches(sounds))
    assert found == [[1, 4], [2], [0, 3]]  # what is shorter is repeated to 8,000 samples
