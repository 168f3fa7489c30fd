"""A convolution and its pool in one: the blocks one after the other in float64, and only where nothing is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from shards.cli.command import compose
from train.checkpoint.checkpoint import build
from train.model.blocks import block_of
from train.model.layers import Layer, StudentSpec
from train.model.polyphase import is_fused, pooled
from train.model.student import Trunk

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
        assert not is_fused(block.train(), pool, hidden)


@pytest.mark.parametrize("student", ["soundnet8", "soundnet5", "resnet1d"])
@pytest.mark.parametrize("seconds", [9.5, 11.11])
def test_networks_give_the_same_features_and_logits(student: str, seconds: float) -> None:
    network = build(compose(StudentSpec, f"student/{student}"), {"objects": 3}, sample_rate=22_050).double().eval()
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
