"""Features of whole recordings: in batches and from the cache as one by one, and excerpts by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.features.network import FeatureCache, batches, excerpts, extract
from evaluate.probe.features.windows import cut_for
from shards.errors import UserError
from train.checkpoint.checkpoint import load_network
from train.model.student import Trunk, scaled


@pytest.fixture
def network(checkpoint: Path) -> Trunk:
    return load_network(checkpoint)[0]


@pytest.fixture
def recordings(esc_spec: BenchmarkSpec, esc_root: Path) -> Recordings:
    return Recordings(load_benchmark(esc_spec, esc_root), 8000)


class Counting(torch.nn.Module):
    """A network that counts its passes, and how many samples the largest has."""

    def __init__(self, network: Trunk) -> None:
        super().__init__()
        self.network, self.passes, self.largest = network, 0, 0

    def __getattr__(self, name: str) -> object:
        return super().__getattr__(name) if name in ("network",) else getattr(self.network, name)

    def features(self, waveform: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        self.passes += 1
        self.largest = max(self.largest, waveform.numel())
        return self.network.features(waveform, layers)


def one_by_one(network: Trunk, recordings: Recordings, layer: str) -> np.ndarray:
    cut = cut_for(network, layer, seconds=1.0, window_seconds=0.4)
    parts = []
    for index in range(len(recordings.waveforms)):
        waveform = torch.from_numpy(recordings.repeated(index)).unsqueeze(0)
        with torch.no_grad():
            parts.append(cut(network.features(scaled(waveform), [layer])[layer][0].numpy()))
    return np.concatenate(parts)


def test_batched_as_one_by_one_in_one_pass(network: Trunk, recordings: Recordings) -> None:
    counting = Counting(network)
    found = extract(counting, recordings, ["conv2", "pool1", "conv3"])  # type: ignore[arg-type]
    assert list(found) == ["conv2", "pool1", "conv3"] and counting.passes == 1  # 18 s of sound are one batch
    for layer, windows in found.items():
        np.testing.assert_allclose(windows.values, one_by_one(network, recordings, layer), atol=1e-5)
        assert np.unique(windows.recordings).tolist() == list(range(18))


def test_a_long_recording_is_heard_in_stretches(network: Trunk, recordings: Recordings) -> None:
    """With the features of one pass, windows of it too, and no pass of more than a batch."""
    random = np.random.default_rng(0)
    recordings.waveforms[3] = random.integers(-20_000, 20_000, 300 * 8000 + 77).astype(np.int16)
    counting = Counting(network)
    found = extract(counting, recordings, ["conv2", "pool1", "conv3"])  # type: ignore[arg-type]
    assert counting.largest <= 80 * 8000
    for layer, windows in found.items():
        np.testing.assert_allclose(windows.values, one_by_one(network, recordings, layer), atol=1e-4)
    by_excerpt = extract(counting, recordings, ["conv2"], windows="waveform")["conv2"]  # type: ignore[arg-type]
    assert counting.largest <= 80 * 8000
    pieces = np.concatenate(list(excerpts(recordings, 3, 1000)))
    each = [network.features(scaled(torch.from_numpy(piece[None])), ["conv2"])["conv2"] for piece in pieces[::200]]
    alone = torch.cat(each).flatten(1).detach().numpy()
    np.testing.assert_allclose(by_excerpt.values[by_excerpt.recordings == 3][::200], alone, atol=1e-5)


def test_what_is_cached_is_not_computed_again(network: Trunk, recordings: Recordings, tmp_path: Path) -> None:
    counting = Counting(network)
    cache = FeatureCache(tmp_path, "weights")

    def found(layers: list[str], cache: FeatureCache = cache, recordings: Recordings = recordings) -> np.ndarray:
        return extract(counting, recordings, layers, cache=cache)["conv2"].values  # type: ignore[arg-type]

    first = found(["conv2"])
    assert np.array_equal(first, found(["conv2"], recordings=Recordings(recordings.benchmark, 8000)))
    assert counting.passes == 1
    found(["conv2", "pool1"])
    assert counting.passes == 2
    found(["conv2"], FeatureCache(tmp_path, "other weights"))
    assert counting.passes == 3
    shorter = replace(recordings.benchmark, spec=replace(recordings.benchmark.spec, window_seconds=0.2))
    values = found(["conv2"], recordings=Recordings(shorter, 8000))
    assert (
        counting.passes == 3 and values.shape[1] == 8 * 13
    )  # ceil(0.2 * 63) steps of 8 channels, of the same features
    (kept,) = [path for path in tmp_path.glob("*/conv2.npz") if (path.parent / "pool1.npz").is_file()]
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: computed again, not believed
    assert np.array_equal(found(["conv2"]), first)


def test_excerpts_are_passed_by_themselves(network: Trunk, recordings: Recordings) -> None:
    found = extract(network, recordings, ["conv2"], windows="waveform")["conv2"]
    waveform = recordings.repeated(4)
    pieces = [waveform[start : start + 3200] for start in range(0, 8000 - 3200 + 1, 2972)]  # 0.37 s apart
    assert np.array_equal(np.concatenate(list(excerpts(recordings, 4, 2))), pieces)
    with torch.no_grad():
        expected = [
            network.features(scaled(torch.from_numpy(piece)[None]), ["conv2"])["conv2"].numpy() for piece in pieces
        ]
    np.testing.assert_allclose(found.of(np.array([4])).values, np.stack(expected).reshape(2, -1), atol=1e-5)


def test_too_short_excerpts_are_refused_before_any_work(network: Trunk, recordings: Recordings) -> None:
    short = replace(recordings.benchmark, spec=replace(recordings.benchmark.spec, window_seconds=0.02))
    with pytest.raises(UserError, match="conv3 of tiny needs at least"):
        extract(network, Recordings(short, 8000), ["conv3"], windows="waveform")


def test_batches_hold_one_length_each(recordings: Recordings) -> None:
    recordings.__dict__["waveforms"] = [np.zeros(length, np.int16) for length in (9000, 5000, 8500, 9000, 7000)]
    found = list(batches(recordings))
    assert found == [[1, 4], [2], [0, 3]]  # what is shorter is repeated to 8,000 samples
