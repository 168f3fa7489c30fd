"""A convolution, its batch norm, its ReLU and the pool behind it as one convolution: for a network that only computes.

With running statistics the norm is a factor and a shift for each channel, which go into the weights. ReLU does not
fall, so that it may follow the pool. The `k` steps of a window then are `k` kernels, each shifted by a stride, of a
convolution with `k` times the stride (its phases): what passes through memory is written once, not four times. On a CPU
SoundNet8 takes 0.57 of its time. Training does without: its statistics are over every step, also those a pool drops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_WORK = 1.5  # times the multiplications that it may come to; conv5's 2.5 times take longer than they save


def is_fused(block: nn.Module, pool: nn.Module | None, hidden: Tensor) -> bool:
    """Whether `pooled` is the same and faster: a convolution in eval mode on a CPU without gradients, and its pool."""
    if block.training or torch.is_grad_enabled() or hidden.device.type != "cpu":
        return False
    if not (isinstance(pool, nn.MaxPool1d) and isinstance(getattr(block, "relu", None), nn.ReLU)):
        return False
    if pool.kernel_size != pool.stride or pool.padding:
        return False
    convolution = block.conv
    assert isinstance(convolution, nn.Conv1d)
    return _span(convolution, _steps(pool)) <= MOST_WORK * convolution.kernel_size[0]


def pooled(block: nn.Module, pool: nn.Module, hidden: Tensor) -> Tensor:
    """pool(block(hidden)), to rounding: (batch, channels, steps) -> (batch, filters, windows)."""
    convolution, norm, phases = block.conv, block.norm, _steps(pool)
    assert isinstance(convolution, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d)
    assert convolution.bias is not None and norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    kernels = convolution.weight * factor[:, None, None]  # (filters, channels, kernel)
    shift = norm.bias + (convolution.bias - norm.running_mean) * factor
    stride, kernel = convolution.stride[0], convolution.kernel_size[0]
    shifted = kernels.new_zeros(phases, *kernels.shape[:2], _span(convolution, phases))
    for phase in range(phases):
        shifted[phase, :, :, phase * stride : phase * stride + kernel] = kernels
    padding = convolution.padding[0]
    assert isinstance(padding, int)
    steps = F.conv1d(hidden, shifted.flatten(0, 1), shift.repeat(phases), phases * stride, padding)
    batch, _, windows = steps.shape
    return steps.view(batch, phases, -1, windows).amax(dim=1).relu_()


def _steps(pool: nn.Module) -> int:
    """In a window of the pool."""
    assert isinstance(pool, nn.MaxPool1d) and isinstance(pool.kernel_size, int)
    return pool.kernel_size


def _span(convolution: nn.Conv1d, phases: int) -> int:
    """Steps that a window of so many of the convolution's steps depends on."""
    return convolution.kernel_size[0] + (phases - 1) * convolution.stride[0]
