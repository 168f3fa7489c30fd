"""Residual and mean layers against torch's plain functions in float64, and the deep student against closed formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shards.cli.command import compose
from shards.errors import UserError
from shards.format.clip import ClipSpec
from train.checkpoint.checkpoint import load_student
from train.model.blocks import block_of
from train.model.layers import Layer, StudentSpec
from train.model.student import Student
from train.run import run
from train.settings import TrainSettings
from train.trainer.losses import windows_per_step

RESNET = compose(StudentSpec, "student/resnet1d")
RATE, WINDOW = 22_050, 110_250  # samples a second, and of one label window of 5 s


def normalised(hidden: Tensor, convolution: nn.Conv1d, norm: nn.BatchNorm1d, stride: int, padding: int) -> Tensor:
    """A convolution and its batch norm's formula."""
    convolved = F.conv1d(hidden, convolution.weight, convolution.bias, stride, padding)
    mean, var, weight, bias = (
        each[:, None] for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if each is not None
    )
    return (convolved - mean) / (var + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize(("channels", "stride"), [(3, 2), (4, 1), (3, 1)], ids=["strided", "identity", "widened"])
def test_a_residual_block_is_two_convolutions_beside_a_shortcut(channels: int, stride: int) -> None:
    block = block_of(Layer("b", 5, stride, 2, 4, "residual"), channels).double().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in block.state_dict().values():  # of ordinary size, so that nothing is hidden
        if tensor.is_floating_point():
            tensor.uniform_(0.2, 1.0, generator=generator)
    x = torch.randn(2, channels, 23, generator=generator, dtype=torch.float64)
    first = F.relu(normalised(x, block.first.conv, block.first.norm, stride, 2))
    second = normalised(first, block.second.conv, block.second.norm, 1, 2)
    is_plain = channels == 4 and stride == 1
    beside = x if is_plain else normalised(x, block.shortcut.conv, block.shortcut.norm, stride, 0)
    assert isinstance(block.shortcut, nn.Identity) == is_plain
    torch.testing.assert_close(block(x), F.relu(second + beside), rtol=1e-12, atol=1e-12)


def test_a_mean_layer_is_the_mean_of_whole_windows() -> None:
    x = torch.randn(2, 3, 14, dtype=torch.float64)
    found = block_of(Layer("pool", 4, 4, kind="mean"), 3)(x)
    torch.testing.assert_close(found, x[..., :12].reshape(2, 3, 3, 4).mean(dim=3))


def test_parameters_by_formula() -> None:
    def convolution(kernel: int, into: int, out: int) -> int:
        return kernel * into * out + out + 2 * out  # weights, biases, batch norm

    def block(kernel: int, into: int, out: int, stride: int) -> int:
        shortcut = convolution(1, into, out) if into != out or stride > 1 else 0
        return convolution(kernel, into, out) + convolution(kernel, out, out) + shortcut

    widths = [(9, 32, 64, 5), (9, 64, 64, 1), (9, 64, 128, 5), (9, 128, 128, 1)]
    widths += [(3, 128, 256, 3), (3, 256, 256, 1), (3, 256, 512, 1), (3, 512, 512, 1)]
    wanted = convolution(65, 1, 32) + sum(block(*each) for each in widths) + (512 + 1) * (1000 + 401)
    student = Student(RESNET, {"objects": 1000, "scenes": 401}, sample_rate=RATE)
    assert sum(each.numel() for each in student.parameters()) == wanted == 4_995_129


def test_each_output_step_covers_its_label_window() -> None:
    """441,000 samples through strides 7, 5, 5, 3, rounded up at each, are 840 steps: 210 to a window of 5 s."""
    assert [RESNET.steps(441_000, name) for name in ("conv1", "block2", "block4", "block8", "pool")] == [
        63_000,
        12_600,
        2_520,
        840,
        4,
    ]
    assert windows_per_step(RESNET, ClipSpec()) == 1
    # Upwards from conv1 at 64: each block adds (kernel - 1) * (its own stride + 1) strides below it.
    field = 1 + 64 + 8 * 6 * 7 + 8 * 2 * 35 + 8 * 6 * 35 + 8 * 2 * 175 + 2 * 4 * 175 + 3 * (2 * 2 * 525)
    assert RESNET.receptive_field("block8") == field and RESNET.stride("block8") == 525
    assert RESNET.receptive_field() == field + 209 * 525 and RESNET.stride() == WINDOW
    # Half a step early: a window's steps begin at its first sample and end 525 samples before the next.
    assert [RESNET.centre(step) for step in range(4)] == [WINDOW * (step + 0.5) - 525 / 2 for step in range(4)]


SMALL = StudentSpec(
    "small",
    [
        Layer("conv1", 9, 5, 4, 6),
        Layer("block1", 5, 5, 2, 12, "residual"),
        Layer("block2", 3, 1, 1, 12, "residual"),
        Layer("pool", 20, 20, kind="mean"),
    ],
    Layer("conv", 1, 1),
)


@pytest.mark.parametrize("layer", SMALL.through())
def test_lengths_and_reach_are_those_of_the_network_that_runs(layer: Layer) -> None:
    student = Student(SMALL, {"objects": 3}, sample_rate=1000).eval()
    samples = 1777
    steps = SMALL.steps(samples, layer.name)
    waveform = torch.zeros(1, samples, requires_grad=True)
    values = student.features(waveform, [layer.name])[layer.name]
    assert values.shape[2] == steps
    assert SMALL.steps(SMALL.min_samples(layer.name), layer.name) == 1
    # ReLUs are taken out, so that every sample that a step can depend on leaves a gradient.
    linear = nn.Sequential(*(straight(each, size) for each, size in zip(SMALL.layers, [1, 6, 12, 12], strict=True)))
    depth = min([*student.blocks, "conv"].index(layer.name) + 1, len(linear))
    step = steps // 2
    linear[:depth](waveform[:, None])[0, 0, step].backward()
    assert waveform.grad is not None
    reached = torch.nonzero(waveform.grad[0]).ravel()
    assert int(reached[-1] - reached[0]) + 1 == SMALL.receptive_field(layer.name)
    assert (int(reached[-1]) + int(reached[0])) / 2 == SMALL.centre(step, layer.name)


def straight(layer: Layer, channels: int) -> nn.Module:
    """What a layer's steps can reach: the same convolutions with positive weights, nothing between them."""
    if layer.filters is None:
        return nn.AvgPool1d(layer.kernel, layer.stride)
    again = [nn.Conv1d(layer.filters, layer.filters, layer.kernel, 1, layer.padding)] if layer.kind else []
    found = nn.Sequential(nn.Conv1d(channels, layer.filters, layer.kernel, layer.stride, layer.padding), *again)
    for parameter in found.parameters():
        nn.init.constant_(parameter, 0.1)
    return found


@pytest.mark.usefixtures("undrawn")
def test_a_deep_student_learns_and_comes_back(tmp_path: Path, make_shards: Callable[..., Path]) -> None:
    shards = make_shards(tmp_path / "shards", {"train-000000": 20, "validation-000000": 7})
    settings = TrainSettings(shards=str(shards), student=SMALL, run=tmp_path / "run", device="cpu", compile=False)
    settings = replace(settings, batch=8, steps=200, validate_every=200, save_every=200)
    run(settings)
    mean = json.loads((tmp_path / "run" / "validation.json").read_text())["mean"]
    assert mean["objects/kl"] < 0.5 * min(mean["objects/kl_mean"], mean["objects/kl_uniform"])
    run(replace(settings, steps=201))
    student, checkpoint = load_student(tmp_path / "run" / "last.pt")
    assert student.spec == SMALL and checkpoint.position is not None and checkpoint.position["step"] == 201


def test_impossible_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="twice its padding and 1"):
        Layer("block1", 4, 2, 1, 8, "residual")
    with pytest.raises(UserError, match=r"block1 is of kind residual, which needs filters"):
        block_of(Layer("block1", 3, 2, 1, kind="residual"), 8)
    with pytest.raises(UserError, match=r"of kind dense, which is unknown: choose among convolution, max, mean, "):
        block_of(Layer("block1", 3, 2, 1, kind="dense"), 8)
