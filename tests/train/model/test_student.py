"""The student against the published numbers and against a float64 reference written with numpy alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shards.cli.command import compose
from shards.errors import UserError
from train.checkpoint.checkpoint import build
from train.model.layers import Layer, StudentSpec
from train.model.student import Student

SAMPLE_RATE = 22_050
HEADS = {"objects": 1000, "scenes": 401}  # the paper's
SMALL = StudentSpec(
    "small",
    [Layer("conv1", 6, 2, 3, 4), Layer("pool1", 3, 3), Layer("conv2", 4, 2, 1, 5)],
    Layer("conv3", 3, 2, 1),
)


@pytest.fixture(scope="module")
def soundnet8() -> Student:
    return Student(compose(StudentSpec, "student/soundnet8"), HEADS, sample_rate=SAMPLE_RATE).eval()


def small(seed: int = 0) -> Student:
    return Student(SMALL, {"objects": 7, "scenes": 3}, sample_rate=100, seed=seed)


def lived_in(student: Student) -> Student:
    """With parameters and statistics of ordinary size, so that nothing is hidden by tiny or neutral numbers."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point():
            low, high = (0.5, 2.0) if name.endswith("running_var") else (-1.0, 1.0)
            tensor.uniform_(low, high, generator=generator)
    return student.eval()


def convolve(x: NDArray[np.float64], layer: Layer, convolution: nn.Conv1d) -> NDArray[np.float64]:
    """(channels, steps) -> (filters, steps), one dot product at a time."""
    weight, bias = (part.detach().double().numpy() for part in (convolution.weight, convolution.bias))
    padded = np.pad(x, ((0, 0), (layer.padding, layer.padding)))
    steps = range(0, padded.shape[1] - layer.kernel + 1, layer.stride)
    windows = [padded[:, t : t + layer.kernel] for t in steps]
    return np.array([[(w * part).sum() + b for part in windows] for w, b in zip(weight, bias, strict=True)])


def reference(student: Student, waveform: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Every layer and head of the small student in eval mode, {name: (channels, steps)}."""
    x, found = waveform[None], {}
    for layer in student.spec.layers:
        block = student.blocks[layer.name]
        if layer.is_pool:
            steps = range(0, x.shape[1] - layer.kernel + 1, layer.stride)
            x = np.stack([x[:, t : t + layer.kernel].max(axis=1) for t in steps], axis=1)
        else:
            x = convolve(x, layer, block.conv)
            mean, var, weight, bias = (
                part.detach().double().numpy()[:, None]
                for part in (block.norm.running_mean, block.norm.running_var, block.norm.weight, block.norm.bias)
            )
            x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)
        found[layer.name] = x
    return found | {head: convolve(x, student.spec.output, student.heads[head]) for head in student.heads}


def test_layers_and_logits_match_the_reference() -> None:
    student = lived_in(small())
    waveform = np.random.default_rng(0).normal(size=97)
    expected = reference(student, waveform)
    with torch.inference_mode():
        batch = torch.from_numpy(waveform).float()[None]
        found = student.features(batch, ["conv1", "pool1", "conv2"]) | student(batch)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert array.std() > 0.1
        np.testing.assert_allclose(found[name][0].numpy(), array, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("name", "parameters"), [("soundnet8", 14_352_713), ("soundnet5", 6_202_137)])
def test_trainable_parameters(name: str, parameters: int) -> None:
    student = Student(compose(StudentSpec, f"student/{name}"), HEADS, sample_rate=SAMPLE_RATE)
    assert sum(each.numel() for each in student.parameters()) == parameters
    assert {head: convolution.out_channels for head, convolution in student.heads.items()} == HEADS


def test_lengths_are_those_of_the_network_that_runs(soundnet8: Student) -> None:
    samples = 220_500
    with torch.inference_mode():
        features = soundnet8.features(torch.zeros(1, samples), soundnet8.layers)
        logits = soundnet8(torch.zeros(1, samples))
    assert {name: each.shape[2] for name, each in features.items()} == {
        name: soundnet8.output_steps(samples, name) for name in soundnet8.layers
    }
    assert {head: tuple(each.shape) for head, each in logits.items()} == {
        "objects": (1, 1000, 1),
        "scenes": (1, 401, 1),
    }
    assert soundnet8.output_steps(441_000) == 4 and soundnet8.min_samples() == 209_374


def test_initialisation_is_the_papers(soundnet8: Student) -> None:
    for module in soundnet8.modules():
        if isinstance(module, nn.Conv1d):
            count = module.weight.numel()
            assert abs(module.weight.mean()) < 5 * 0.01 / count**0.5
            assert abs(module.weight.std() / 0.01 - 1) < 5 / count**0.5
            assert not module.bias.any()
        elif isinstance(module, nn.BatchNorm1d):
            count = module.weight.numel()
            assert abs(module.weight.mean() - 1) < 5 * 0.02 / count**0.5
            assert abs(module.weight.std() / 0.02 - 1) < 5 / count**0.5
            assert not module.bias.any() and module.eps == 1e-5


def test_seed_alone_decides_the_initialisation() -> None:
    torch.manual_seed(1)
    first = small(seed=3).state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(tensor, first[name]) for name, tensor in small(seed=3).state_dict().items())
    assert not torch.equal(small(seed=4).blocks["conv1"].conv.weight, first["blocks.conv1.conv.weight"])


def test_features_end_at_the_deepest_layer_asked_for() -> None:
    class Unreachable(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            raise AssertionError("a layer below the deepest asked for was computed")

    student = lived_in(small())
    student.blocks["conv2"] = Unreachable()
    assert list(student.features(torch.zeros(2, 50), ["pool1", "conv1"])) == ["pool1", "conv1"]
    with pytest.raises(AssertionError, match="was computed"):
        student.features(torch.zeros(2, 50), ["conv2"])


def test_output_layer_features_are_log_posteriors_of_the_heads_in_order() -> None:
    student = lived_in(small())
    waveform = torch.randn(2, 60, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, logits = student.features(waveform, ["conv3", "conv1"]), student(waveform)
    assert list(features) == ["conv3", "conv1"]
    assert features["conv3"].shape == (2, 7 + 3, student.output_steps(60))
    sums = [features["conv3"][:, :7].exp().sum(1), features["conv3"][:, 7:].exp().sum(1)]
    torch.testing.assert_close(sums, [torch.ones_like(sums[0])] * 2)
    offset = features["conv3"][:, :7] - logits["objects"]
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset))


@pytest.mark.parametrize("layer", SMALL.through())
def test_shortest_sound_works_and_one_sample_less_says_how_long(layer: Layer) -> None:
    student = lived_in(small())
    shortest = student.min_samples(layer.name)
    assert student.features(torch.zeros(1, shortest), [layer.name])[layer.name].shape[2] == 1
    with pytest.raises(
        UserError, match=rf"{layer.name} of small needs at least {shortest} samples .* has {shortest - 1}"
    ):
        student.features(torch.zeros(1, shortest - 1), [layer.name])


def test_too_short_for_the_output_says_so_in_samples_and_seconds(soundnet8: Student) -> None:
    with pytest.raises(
        UserError, match=r"conv8 of soundnet8 needs at least 209374 samples \(9\.495 s\).*110250 \(5\.0"
    ):
        soundnet8(torch.zeros(1, 110_250))


def test_a_student_without_heads_is_refused() -> None:
    with pytest.raises(UserError, match="learn_from"):
        Student(SMALL, {}, sample_rate=100)


def test_compiles_in_one_graph() -> None:
    student = small()
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    waveform = torch.randn(2, 60, generator=torch.Generator().manual_seed(0))
    expected = small()(waveform)  # in train mode, where a call also moves the running statistics
    found = compiled(waveform)
    assert all(torch.equal(found[head], expected[head]) for head in expected)


@pytest.mark.parametrize("name", ["soundnet8", "soundnet5", "autoencoder"])
def test_arithmetic_is_as_torch_counts_it(name: str) -> None:
    network = build(compose(StudentSpec, f"student/{name}"), {"objects": 10, "scenes": 4}, sample_rate=22_050)
    with FlopCounterMode(display=False) as counter:  # with gradients: without, polyphase.py multiplies some zeros
        network.eval()(torch.zeros(1, 220_500))
    assert network.flops(220_500) == counter.get_total_flops()
