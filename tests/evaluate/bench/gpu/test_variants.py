"""Other ways of computing a step are the step, in float64, with its gradients and running statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from evaluate.bench.gpu.variants import channels_last, folded, polyphase
from train.model.layers import Layer, StudentSpec
from train.model.student import Student

LAYERS = [Layer("conv1", 16, 2, 8, 4), Layer("pool1", 8, 8), Layer("conv2", 8, 1, 4, 6), Layer("pool2", 3, 3)]


@pytest.mark.parametrize("variant", [channels_last, polyphase, folded])
@pytest.mark.parametrize("samples", [2000, 2013, 2015])
def test_a_variant_is_the_step(variant: Callable[..., dict[str, torch.Tensor]], samples: int) -> None:
    plain = Student(
        StudentSpec("small", LAYERS, Layer("out", 4, 2)), {"a": 3, "b": 2}, sample_rate=8000, seed=1
    ).double()
    with torch.no_grad():
        plain.blocks["conv1"].norm.weight[0] = -0.7  # a factor below 0 turns a maximum into a minimum
    other = copy.deepcopy(plain)
    waveform = torch.randn(3, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted, found = plain(waveform), variant(other, waveform)
    for logits in (wanted, found):
        sum(each.square().sum() for each in logits.values()).backward()  # type: ignore[union-attr]
    for head, logits in wanted.items():
        torch.testing.assert_close(found[head], logits, rtol=1e-6, atol=1e-9)
    # Biases in front of batch norm have no gradient but rounding.
    for (name, parameter), twin in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert parameter.grad is not None and twin.grad is not None
        torch.testing.assert_close(twin.grad, parameter.grad, rtol=1e-5, atol=1e-9 if "conv.bias" not in name else 1e-6)
    for (name, buffer), twin in zip(plain.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(twin, buffer, rtol=1e-5, atol=1e-8, msg=name)
