"""A convolution, its batch norm, its ReLU and the pool behind it as one convolution.

The `k` steps of a pool's window are `k` kernels, each shifted by a stride, of a convolution with `k` times the stride
(its phases): (batch, k x filters, windows). ReLU does not fall, so that it may follow the pool. What passes through
memory is written once, not four times. Exact but for the order of sums.

In eval mode batch norm is a factor and a shift for each channel, which go into the weights: SoundNet8 takes 0.57 of its
time on a CPU. In training its statistics are over every step, also those behind the pool's last window, which are
computed apart; that takes a compiler to pay: a compiled step of SoundNet8 takes 0.67 of its time on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_WORK = 1.5  # times the multiplications that it may come to; conv5's 2.5 times take longer than they save


def is_fused(block: nn.Module, pool: nn.Module | None, hidden: Tensor) -> bool:
    """Whether `pooled` is the same and faster: on a CPU, in eval mode without gradients or in a compiled training step.

    On a GPU it is not: `evaluate.bench.gpu.variants` has what was tried there.
    """
    if hidden.device.type != "cpu":
        return False
    if not torch.compiler.is_compiling() if block.training else torch.is_grad_enabled():
        return False
    return is_poolable(block, pool)


def is_poolable(block: nn.Module, pool: nn.Module | None) -> bool:
    """Whether `pooled` is the same, at not many more multiplications."""
    if not (isinstance(pool, nn.MaxPool1d) and isinstance(getattr(block, "relu", None), nn.ReLU)):
        return False
    if not isinstance(block.norm, nn.BatchNorm1d) or pool.kernel_size != pool.stride or pool.padding:
        return False
    convolution = block.conv
    assert isinstance(convolution, nn.Conv1d)
    return _span(convolution, _steps(pool)) <= MOST_WORK * convolution.kernel_size[0]


def pooled(block: nn.Module, pool: nn.Module, hidden: Tensor) -> Tensor:
    """pool(block(hidden)), to rounding: (batch, channels, steps) -> (batch, filters, windows)."""
    convolution, norm, phases = block.conv, block.norm, _steps(pool)
    assert isinstance(convolution, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d)
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None and norm.running_mean is not None and norm.running_var is not None
    if not block.training:
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = weight * factor[:, None, None], norm.bias + (bias - norm.running_mean) * factor
        return _phases(convolution, phases, hidden, weight, bias).amax(dim=1).relu_()
    steps = _phases(convolution, phases, hidden, weight, bias)
    mean, variance = _statistics(norm, steps, _behind(convolution, phases, hidden, steps.shape[3]))
    factor = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * factor
    # `amax` spreads its gradient over all steps equal to it, none of which may be where a compiler computes them twice.
    largest = (steps.to(factor.dtype) * factor[:, None] + shift[:, None]).max(dim=1).values
    return largest.relu().to(steps.dtype)


def _phases(convolution: nn.Conv1d, phases: int, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution's steps by the pool's windows: (batch, phases, filters, windows)."""
    stride, padding = convolution.stride[0], convolution.padding[0]
    assert isinstance(padding, int)
    last = (phases - 1) * stride
    kernels = torch.cat([F.pad(weight, (shift, last - shift)) for shift in range(0, last + stride, stride)])
    steps = F.conv1d(hidden, kernels, bias.repeat(phases), phases * stride, padding)
    batch, _, windows = steps.shape
    return steps.view(batch, phases, -1, windows)


def _behind(convolution: nn.Conv1d, phases: int, hidden: Tensor, windows: int) -> Tensor | None:
    """The convolution's steps behind the last window, (batch, filters, fewer than `phases`), or None."""
    stride, padding = convolution.stride[0], convolution.padding[0]
    assert isinstance(padding, int)
    first = windows * phases * stride - padding
    rest = F.pad(hidden[..., max(first, 0) :], (max(-first, 0), padding))
    if rest.shape[2] < convolution.kernel_size[0]:
        return None
    return F.conv1d(rest, convolution.weight, convolution.bias, stride)


def _statistics(norm: nn.BatchNorm1d, steps: Tensor, rest: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance of each filter over (batch, phases, filters, windows) and (batch, filters, steps) together.

    The running statistics move as in training by `norm` itself.
    """
    dtype = norm.weight.dtype
    count = steps.numel() // steps.shape[2]
    variance, mean = torch.var_mean(steps.to(dtype), dim=(0, 1, 3), correction=0)
    if rest is not None:  # Chan, Golub and LeVeque (1979): mean and variance of two parts together
        more = rest.shape[0] * rest.shape[2]
        other, middle = torch.var_mean(rest.to(dtype), dim=(0, 2), correction=0)
        share, apart = more / (count + more), middle - mean
        variance = (1 - share) * variance + share * other + share * (1 - share) * apart.square()
        mean, count = mean + share * apart, count + more
    with torch.no_grad():
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked += 1
    return mean, variance


def _steps(pool: nn.Module) -> int:
    """In a window of the pool."""
    assert isinstance(pool, nn.MaxPool1d) and isinstance(pool.kernel_size, int)
    return pool.kernel_size


def _span(convolution: nn.Conv1d, phases: int) -> int:
    """Steps that a window of so many of the convolution's steps depends on."""
    return convolution.kernel_size[0] + (phases - 1) * convolution.stride[0]
