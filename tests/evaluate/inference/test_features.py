"""Features of long sounds in stretches: those of one pass, at every layer, and no pass longer than a stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluate.inference.features import features_of, layers_of
from shards.cli.command import compose
from train.checkpoint.checkpoint import build, load_network
from train.model.layers import StudentSpec
from train.model.student import Trunk

STUDENTS = ("soundnet8", "soundnet5", "resnet1d")


def trunk(student: str) -> Trunk:
    """With an eighth of the filters."""
    spec = compose(StudentSpec, f"student/{student}")
    spec = replace(spec, layers=[replace(each, filters=each.filters and each.filters // 8) for each in spec.layers])
    return build(spec, {"objects": 3}, sample_rate=2000).eval()


def sound(samples: int, rows: int = 1) -> Tensor:
    return 50 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(samples))


def one_pass(network: Trunk, waveform: Tensor, layer: str) -> Tensor:
    with torch.inference_mode():
        return network.features(waveform, [layer])[layer]


def pieces(waveform: Tensor, size: int) -> Sequence[Tensor]:
    return [waveform[:, at : at + size] for at in range(0, waveform.shape[1], size)]


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_stretches_equal_one_pass_at_every_hidden_layer(
    student: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.device.threads.available_threads", lambda: threads)
    network = trunk(student)
    for index, layer in enumerate(network.blocks):
        spec = network.spec
        waveform = sound(3 * (spec.receptive_field(layer) + spec.min_samples(layer)) + 20_000 + 997 * index)
        whole = one_pass(network, waveform, layer)
        parts = list(features_of(network, layer, pieces(waveform, 3_001), stretch_seconds=2.0))
        assert len(parts) >= 2, layer
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("student", STUDENTS)
def test_all_layers_in_one_pass_over_the_stretches(student: str) -> None:
    """Shallow and deep together, the output too, for lengths at which the deepest ends before the others."""
    network = trunk(student)
    layers = network.layers[::-1]
    for extra in (0, 1_501, 5_003):
        waveform = sound(3 * network.spec.receptive_field(layers[0]) + network.min_samples() + 20_000 + extra)
        parts = list(layers_of(network, layers, pieces(waveform, 3_001), stretch_seconds=2.0))
        assert len(parts) >= 2
        for layer in layers:
            found = torch.cat([part[layer] for part in parts if layer in part], dim=2)
            torch.testing.assert_close(found, one_pass(network, waveform, layer), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("extra", range(0, 9000, 613))
def test_any_length_at_the_end_gives_the_same_steps(extra: int) -> None:
    network = trunk("soundnet8")
    waveform = sound(40_000 + extra)
    parts = list(features_of(network, "pool5", pieces(waveform, 2_000), stretch_seconds=4.0))
    torch.testing.assert_close(torch.cat(parts, dim=2), one_pass(network, waveform, "pool5"), atol=1e-5, rtol=1e-4)


def test_a_sound_too_short_for_the_layer_is_repeated(checkpoint: Path) -> None:
    network = load_network(checkpoint)[0]
    waveform = sound(50)
    shortest = network.min_samples("conv3")
    (found,) = features_of(network, "conv3", [waveform[:, :20], waveform[:, 20:]])
    repeated = torch.cat([waveform] * 20, dim=1)[:, :shortest]
    torch.testing.assert_close(found, one_pass(network, repeated, "conv3"))
    assert list(features_of(network, "conv3", [])) == list(features_of(network, "conv3", [waveform[:, :0]])) == []


class Recorder(torch.nn.Module):
    """A network that notes its longest pass."""

    def __init__(self, network: Trunk) -> None:
        super().__init__()
        self.network, self.longest = network, 0

    def __getattr__(self, name: str) -> object:
        return super().__getattr__(name) if name == "network" else getattr(self.network, name)

    def features(self, waveform: Tensor, layers: list[str]) -> dict[str, Tensor]:
        self.longest = max(self.longest, waveform.shape[1])
        return self.network.features(waveform, layers)


@pytest.mark.parametrize("minutes", [2, 20])
def test_no_pass_is_longer_than_a_stretch(checkpoint: Path, minutes: int) -> None:
    recorder = Recorder(load_network(checkpoint)[0])
    second = sound(8_000)
    parts = features_of(recorder, "conv2", (second for _ in range(60 * minutes)), stretch_seconds=10.0)  # type: ignore[arg-type]
    assert sum(part.shape[2] for part in parts) == recorder.spec.steps(8_000 * 60 * minutes, "conv2")  # type: ignore[attr-defined]
    assert 10 * 8_000 < recorder.longest < 12 * 8_000
