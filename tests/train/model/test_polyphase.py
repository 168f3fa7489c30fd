"""A convolution and its pool in one: the blocks one after the other in float64, in eval mode and in training."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from shards.cli.command import compose
from train.checkpoint.checkpoint import build
from train.model import student as student_module
from train.model.blocks import block_of
from train.model.layers import Layer, StudentSpec
from train.model.polyphase import is_fused, pooled
from train.model.student import Student, Trunk

CONVOLUTION, POOL = Layer("conv", 64, 2, 32, 5), Layer("pool", 8, 8)


def blocks(convolution: Layer, pool: Layer, channels: int) -> tuple[nn.Module, nn.Module]:
    """With statistics and weights as training leaves them: factors of both signs, and one of 0."""
    torch.manual_seed(0)
    block = block_of(convolution, channels)
    norm = block.norm
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.01, 3.0)
    with torch.no_grad():
        norm.weight[0] = 0.0
    return block.double().eval(), block_of(pool, 1).eval()


@pytest.mark.parametrize("samples", [14, 15, 16, 29, 30, 31, 400, 401, 415, 1000])
@pytest.mark.parametrize(
    ("convolution", "pool"),
    [(CONVOLUTION, POOL), (Layer("conv", 32, 2, 16, 7), POOL), (Layer("conv", 9, 3, 0, 4), Layer("pool", 2, 2))],
)
def test_it_is_the_blocks_one_after_the_other(convolution: Layer, pool: Layer, samples: int) -> None:
    block, following = blocks(convolution, pool, 3)
    hidden = torch.randn(2, 3, samples, dtype=torch.float64)
    with torch.inference_mode():
        expected = following(block(hidden))
        assert is_fused(block, following, hidden) and expected.numel()
        torch.testing.assert_close(pooled(block, following, hidden), expected, rtol=1e-12, atol=1e-12)


def test_it_is_left_where_it_is_not_the_same_or_not_faster() -> None:
    hidden = torch.randn(1, 3, 400, dtype=torch.float64)
    block, pool = blocks(CONVOLUTION, POOL, 3)
    assert not is_fused(block, pool, hidden)  # gradients
    with torch.inference_mode():
        assert is_fused(block, pool, hidden)
        for other in (Layer("pool", 8, 4), Layer("pool", 8, 8, 1), Layer("pool", 8, 8, kind="mean")):
            assert not is_fused(block, block_of(other, 1), hidden)
        assert not is_fused(*blocks(Layer("conv", 4, 2, 2, 5), Layer("pool", 4, 4), 3), hidden)  # 2.5 times the work
        assert not is_fused(block_of(Layer("res", 9, 2, 4, 5, "residual"), 3).eval(), pool, hidden)
        assert not is_fused(block.train(), pool, hidden)  # and no compiler


@pytest.mark.parametrize("samples", [14, 30, 400, 401, 415])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_in_training_gradients_and_statistics_are_those_of_the_blocks(samples: int, stride: int) -> None:
    """Steps behind the pool's last window are in the statistics, though they are in no window."""
    block, pool = blocks(Layer("conv", 24, stride, 12, 5), Layer("pool", 3, 3), 3)
    block.train()
    other = copy.deepcopy(block)
    hidden = torch.randn(2, 3, samples, dtype=torch.float64, requires_grad=True)
    twin = hidden.detach().clone().requires_grad_()
    expected, found = pool(block(hidden)), pooled(other, pool, twin)
    slope = torch.randn_like(expected)
    expected.backward(slope)
    found.backward(slope)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(twin.grad, hidden.grad, rtol=1e-8, atol=1e-10)
    for (name, parameter), value in zip(block.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value.grad, parameter.grad, rtol=1e-8, atol=1e-9, msg=name)
    for (name, buffer), value in zip(block.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(value[1], buffer, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.faults), "bf16"])  # slow: inductor
def test_a_compiled_training_step_takes_it_and_is_the_plain_step(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for the CPU, as `make train device=cpu` does: gradients as without the compiler."""
    layers = [Layer("conv1", 32, 2, 16, 4), Layer("pool1", 8, 8), Layer("conv2", 8, 2, 4, 6)]
    plain = Student(StudentSpec("small", layers, Layer("out", 4, 2)), {"a": 3}, sample_rate=8000)
    other, waveform, taken = copy.deepcopy(plain), 50 * torch.randn(3, 3001), []
    monkeypatch.setattr(student_module, "pooled", lambda *words: taken.append(1) or pooled(*words))
    fast = torch.compile(other, dynamic=False, backend="aot_eager" if precision == "bf16" else "inductor")
    try:
        for network in (plain, fast):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                network(waveform)["a"].square().mean().backward()
    except RuntimeError as error:
        if "InvalidCxxCompiler" not in str(error):
            raise
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    assert taken
    for (name, parameter), twin in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert parameter.grad is not None and twin.grad is not None
        if not name.endswith("conv.bias"):  # in front of batch norm a bias has no gradient but rounding
            far = (twin.grad - parameter.grad).norm() / parameter.grad.norm()
            assert far < (5e-2 if precision == "bf16" else 1e-3), name


@pytest.mark.parametrize("student", ["soundnet8", "soundnet5", "resnet1d"])
@pytest.mark.parametrize("seconds", [11.11])
def test_networks_give_the_same_features_and_logits(student: str, seconds: float) -> None:
    spec = compose(StudentSpec, f"student/{student}")
    narrow = [replace(layer, filters=layer.filters and layer.filters // 8) for layer in spec.layers]
    network = build(replace(spec, layers=narrow), {"objects": 3}, sample_rate=22_050).double().eval()
    waveform = 50 * torch.randn(2, round(seconds * 22_050), dtype=torch.float64)

    def outputs(mode: AbstractContextManager[object]) -> dict[str, Tensor]:
        with mode:
            assert isinstance(network, Trunk)
            every = {f"all {layer}": values for layer, values in network.features(waveform, network.layers).items()}
            alone = {layer: network.features(waveform, [layer])[layer] for layer in network.layers}
            return {**every, **alone, "logits": network(waveform)["objects"]}

    plain, fused = outputs(nullcontext()), outputs(torch.inference_mode())
    for layer, values in plain.items():
        torch.testing.assert_close(fused[layer], values.detach(), rtol=1e-9, atol=1e-12, msg=layer)
