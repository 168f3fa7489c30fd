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
from train.model.polyphase import MOST_WORK, is_poolable, pooled
from train.model.student import Student

Logits = dict[str, Tensor]
WIDE = 128  # channels that a convolution should have, to fill tensor cores


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
    """As a compiled step on a CPU does it (`train.model.polyphase`)."""
    hidden = waveform.unsqueeze(1)
    coming: list[Any] = list(student.blocks.values())
    while coming:
        block = coming.pop(0)
        pool = coming.pop(0) if coming and is_poolable(block, coming[0]) else None
        hidden = block(hidden) if pool is None else pooled(block, pool, hidden)
    return {head: module(hidden) for head, module in student.heads.items()}


def folded(student: Student, waveform: Tensor) -> Logits:
    """Channels innermost, and every stride folded into them: `fold` samples of C channels are one of fold x C channels.

    In this layout that is a view, and so are several steps that one window of such samples gives (its phases). Each
    convolution has stride 1 then, and conv1 16 channels in and 128 out instead of 1 and 16.
    """
    hidden = waveform.unsqueeze(1)  # (batch, channels, samples), of which the channels lie innermost from here on
    block: Any
    for block in student.blocks.values():
        if hasattr(block, "conv"):
            hidden = _normalised(block.norm, _folded(block.conv, hidden)).relu()
        else:
            hidden = block(hidden)
    return {head: _folded(module, hidden) for head, module in student.heads.items()}


def _folded(convolution: Any, hidden: Tensor) -> Tensor:
    """The convolution: (batch, channels, samples) -> (batch, filters, steps)."""
    kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], convolution.padding[0]
    batch, channels, samples = hidden.shape
    filters, phases = convolution.out_channels, 1
    while phases * filters < WIDE and kernel + (2 * phases - 1) * stride <= MOST_WORK * kernel:
        phases *= 2
    steps = (samples + 2 * padding - kernel) // stride + 1
    windows, fold = -(-steps // phases), stride * phases
    taps = -(-(kernel + fold - stride) // fold)  # of the folded kernel
    needed = (windows + taps - 1) * fold
    laid = F.pad(hidden.transpose(1, 2), (0, 0, padding, needed - padding - samples))  # a negative pad cuts
    laid = laid.reshape(batch, needed // fold, 1, fold * channels).permute(0, 3, 2, 1)
    shifts = range(0, fold, stride)
    kernels = torch.stack([F.pad(convolution.weight, (shift, taps * fold - kernel - shift)) for shift in shifts])
    kernels = kernels.view(phases * filters, channels, taps, 1, fold).permute(0, 4, 1, 3, 2)
    kernels = kernels.reshape(phases * filters, fold * channels, 1, taps).contiguous(memory_format=torch.channels_last)
    found = F.conv2d(laid, kernels, convolution.bias.repeat(phases))  # (batch, phases x filters, 1, windows)
    return found.permute(0, 3, 2, 1).reshape(batch, windows * phases, filters)[:, :steps].transpose(1, 2)


def _normalised(norm: nn.Module, hidden: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm1d) and norm.num_batches_tracked is not None and norm.momentum is not None
    norm.num_batches_tracked += 1
    return F.batch_norm(
        hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, norm.momentum, norm.eps
    )
