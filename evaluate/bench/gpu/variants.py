"""Other ways of computing a student's training step, which `make gpu-check` times beside the one that is shipped.

Each computes `Student.forward` in training mode with the student's own parameters, for networks of plain convolutions
and pools (Tables 1 and 2), and leaves the same running statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.frontend import network_input
from train.model.student import Student

Logits = dict[str, Tensor]
MOST_WORK = 1.5  # times the multiplications that a convolution may come to by its phases


class Variant(nn.Module):
    """A way of computing, as a module that takes 16-bit samples as `Frontend` does."""

    def __init__(self, student: Student, forward: Callable[[Student, Tensor], Logits]) -> None:
        super().__init__()
        self.student, self._forward = student, forward

    def forward(self, waveform: Tensor, gain: Tensor | None = None) -> Logits:
        return self._forward(self.student, network_input(waveform, gain))


def channels_last(student: Student, waveform: Tensor) -> Logits:
    """Convolutions of two dimensions, channels innermost: the layout that tensor cores read."""

    def convolved(module: nn.Module, hidden: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv1d)
        weight = module.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        padding = 0, *module.padding
        return F.conv2d(hidden, weight, module.bias, (1, *module.stride), padding)

    hidden = waveform[:, None, None, :].contiguous(memory_format=torch.channels_last)  # (batch, 1, 1, samples)
    block: Any
    for block in student.blocks.values():
        if hasattr(block, "conv"):
            hidden = _normalised(block.norm, convolved(block.conv, hidden)).relu_()
        else:
            hidden = F.max_pool2d(hidden, (1, block.kernel_size), (1, block.stride), (0, block.padding))
    return {head: convolved(module, hidden).squeeze(2) for head, module in student.heads.items()}


def polyphase(student: Student, waveform: Tensor) -> Logits:
    """The steps that a pool takes its maximum over as channels of one convolution with a longer stride (its phases).

    Steps behind the pool's last window count in batch norm's statistics all the same: they are computed apart.
    """
    hidden = waveform.unsqueeze(1)
    coming: list[Any] = list(student.blocks.values())
    while coming:
        block = coming.pop(0)
        pool = coming[0] if coming else None
        if isinstance(pool, nn.MaxPool1d) and _pays(block.conv, pool):
            hidden = _pooled(block, pool, hidden)
            coming.pop(0)
        else:
            hidden = block(hidden)
    return {head: module(hidden) for head, module in student.heads.items()}


def folded(student: Student, waveform: Tensor) -> Logits:
    """Channels innermost, and every stride folded into them: `stride` steps of C channels are one step of stride x C.

    In this layout both that and the phases of `polyphase` are views. Each convolution has stride 1 then, and conv1 16
    channels in and 128 out instead of 1 and 16.
    """
    hidden = waveform.unsqueeze(2)  # (batch, steps, channels), as all that follows
    coming: list[Any] = list(student.blocks.values())
    while coming:
        block = coming.pop(0)
        if not hasattr(block, "conv"):
            pooled = F.max_pool1d(hidden.transpose(1, 2), block.kernel_size, block.stride, block.padding)
            hidden = pooled.transpose(1, 2)
            continue
        pool = coming[0] if coming else None
        phases = 1
        if isinstance(pool, nn.MaxPool1d) and _pays(block.conv, pool):
            phases = coming.pop(0).kernel_size
        steps, rest = _folded(block.conv, hidden, phases)
        hidden = _normalised_steps(block.norm, steps, rest).amax(dim=2)
    logits = {}
    for head, module in student.heads.items():
        assert isinstance(module, nn.Conv1d)
        logits[head] = _folded(module, hidden, 1)[0].squeeze(2).transpose(1, 2)
    return logits


def _folded(convolution: nn.Conv1d, hidden: Tensor, phases: int) -> tuple[Tensor, Tensor | None]:
    """(batch, steps, channels) -> (batch, windows, phases, filters), and what is behind: (batch, steps, filters)."""
    kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    batch, samples, channels = hidden.shape
    steps = (samples + 2 * padding - kernel) // stride + 1
    windows, fold = steps // phases, stride * phases
    taps = -(-(kernel + (phases - 1) * stride) // fold)  # of the folded kernel
    needed = (windows + taps - 1) * fold
    padded = F.pad(hidden, (0, 0, padding, needed - padding - samples))  # a negative pad cuts
    laid = padded.view(batch, needed // fold, 1, fold * channels).permute(0, 3, 2, 1)  # channels last, without a copy
    shifts = range(0, fold, stride)
    weight = torch.stack([F.pad(convolution.weight, (shift, taps * fold - kernel - shift)) for shift in shifts])
    filters = weight.shape[1]
    weight = weight.view(phases * filters, channels, taps, 1, fold).permute(0, 4, 1, 3, 2)
    weight = weight.reshape(phases * filters, fold * channels, 1, taps).contiguous(memory_format=torch.channels_last)
    assert convolution.bias is not None
    found = F.conv2d(laid, weight, convolution.bias.repeat(phases))  # (batch, phases x filters, 1, windows)
    found = found.permute(0, 3, 2, 1).reshape(batch, windows, phases, filters)
    if steps == windows * phases:
        return found, None
    behind = F.pad(hidden, (0, 0, 0, padding))[:, windows * fold - padding :]
    rest = F.conv1d(behind.transpose(1, 2), convolution.weight, convolution.bias, stride)
    return found, rest.transpose(1, 2)


def _normalised_steps(norm: nn.Module, steps: Tensor, rest: Tensor | None) -> Tensor:
    """Batch norm, ReLU: (batch, windows, phases, filters). `rest` (batch, steps, filters) counts in the statistics."""
    counted = steps.permute(0, 2, 3, 1)
    return _normalised_phases(norm, counted, None if rest is None else rest.transpose(1, 2)).permute(0, 3, 1, 2)


def _pays(convolution: nn.Module, pool: nn.MaxPool1d) -> bool:
    assert isinstance(convolution, nn.Conv1d) and isinstance(pool.kernel_size, int)
    kernel = convolution.kernel_size[0]
    apart = pool.kernel_size == pool.stride and not pool.padding
    return apart and kernel + (pool.kernel_size - 1) * convolution.stride[0] <= MOST_WORK * kernel


def _pooled(block: Any, pool: nn.MaxPool1d, hidden: Tensor) -> Tensor:
    """pool(block(hidden)) in training mode: (batch, channels, steps) -> (batch, filters, windows)."""
    convolution, norm, phases = block.conv, block.norm, pool.kernel_size
    assert isinstance(phases, int)
    kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    kernels = [
        F.pad(convolution.weight, (shift, (phases - 1) * stride - shift)) for shift in range(0, phases * stride, stride)
    ]
    folded = F.conv1d(hidden, torch.cat(kernels), convolution.bias.repeat(phases), phases * stride, padding)
    batch, _, windows = folded.shape
    folded = folded.view(batch, phases, -1, windows)
    # Steps behind the last window, (batch, filters, 0 to phases - 1): the sound's end, without the padding in front.
    behind = F.pad(hidden, (padding, padding))[..., windows * phases * stride :]
    rest = F.conv1d(behind, convolution.weight, convolution.bias, stride) if behind.shape[-1] >= kernel else None
    return _normalised_phases(norm, folded, rest).amax(dim=1)


def _normalised_phases(norm: nn.Module, folded: Tensor, rest: Tensor | None) -> Tensor:
    """Batch norm, ReLU: (batch, phases, filters, windows). `rest` (batch, filters, steps) counts in the statistics."""
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
    wide = folded.to(norm.weight.dtype)
    count = wide.numel() // wide.shape[2]
    variance, mean = torch.var_mean(wide, dim=(0, 1, 3), correction=0)
    if rest is not None:  # Chan et al. 1979: the statistics of two parts together
        more = rest.shape[0] * rest.shape[2]
        other, middle = torch.var_mean(rest.to(norm.weight.dtype), dim=(0, 2), correction=0)
        share, apart = more / (count + more), middle - mean
        mean = mean + share * apart
        variance = (1 - share) * variance + share * other + share * (1 - share) * apart.square()
        count += more
    with torch.no_grad():
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked += 1
    factor = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * factor
    return (wide * factor[:, None] + shift[:, None]).relu().to(folded.dtype)


def _normalised(norm: nn.Module, hidden: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm1d) and norm.num_batches_tracked is not None and norm.momentum is not None
    norm.num_batches_tracked += 1
    return F.batch_norm(
        hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, norm.momentum, norm.eps
    )
