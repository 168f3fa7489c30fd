"""What a layer is made of: a convolution, a pool, or a residual block. Another kind is one more entry of BLOCKS."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shards.errors import UserError
from train.model.layers import Layer


def block_of(layer: Layer, channels: int) -> nn.Module:
    """A layer's module: (batch, channels, steps) -> (batch, filters or channels, steps).

    Raises UserError for a kind that is not there.
    """
    kind = layer.kind or ("max" if layer.filters is None else "convolution")
    if kind not in BLOCKS:
        raise UserError(f"layer {layer.name} is of kind {kind}, which is unknown: choose among {', '.join(BLOCKS)}")
    return BLOCKS[kind](layer, channels)


def convolution(layer: Layer, channels: int) -> nn.Module:
    """Convolution, batch norm, ReLU: a hidden layer of the paper."""
    return nn.Sequential(OrderedDict(**_normalised(layer, channels, layer.stride), relu=nn.ReLU(inplace=True)))


def maximum(layer: Layer, channels: int) -> nn.Module:
    """The paper's pool."""
    # MaxPool1d, as max_pool2d on an unsqueezed axis is 6 times slower on a CPU without gradients.
    return nn.MaxPool1d(layer.kernel, layer.stride, layer.padding)


def mean(layer: Layer, channels: int) -> nn.Module:
    """The mean over `kernel` steps: over a label window where kernel and stride are as many steps as it lasts."""
    return nn.AvgPool1d(layer.kernel, layer.stride, layer.padding, count_include_pad=False)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, added before the last ReLU (He et al., arXiv 1512.03385, figure 2).

    The first convolution has the stride. Where steps or channels change, the shortcut is a 1x1 convolution with batch
    norm (their option B).
    """

    def __init__(self, layer: Layer, channels: int) -> None:
        super().__init__()
        filters = filters_of(layer)
        self.first = nn.Sequential(_normalised(layer, channels, layer.stride))
        self.second = nn.Sequential(_normalised(layer, filters, 1))
        self.shortcut: nn.Module = nn.Identity()
        if layer.stride > 1 or channels != filters:
            plain = nn.Conv1d(channels, filters, 1, layer.stride)
            self.shortcut = nn.Sequential(OrderedDict(conv=plain, norm=nn.BatchNorm1d(filters, eps=1e-5)))

    def forward(self, hidden: Tensor) -> Tensor:
        residual: Tensor = self.second(torch.relu(self.first(hidden)))
        return torch.relu(residual + self.shortcut(hidden))


BLOCKS: dict[str, Callable[[Layer, int], nn.Module]] = {
    "convolution": convolution,
    "max": maximum,
    "mean": mean,
    "residual": Residual,
}


def filters_of(layer: Layer) -> int:
    """Raises UserError for a layer that has none where it needs some."""
    if layer.filters is None:
        raise UserError(f"layer {layer.name} is of kind {layer.kind}, which needs filters: filters=...")
    return layer.filters


def _normalised(layer: Layer, channels: int, stride: int) -> OrderedDict[str, nn.Module]:
    """A convolution of the layer's size and its batch norm."""
    filters = filters_of(layer)
    return OrderedDict(
        conv=nn.Conv1d(channels, filters, layer.kernel, stride, layer.padding), norm=nn.BatchNorm1d(filters, eps=1e-5)
    )
