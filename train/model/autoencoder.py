"""The convolutional autoencoder, the baseline of the paper's Table 4: SoundNet8's first four convolutions, mirrored.

The paper (section 4) gives "4 encoder layers and 4 decoder layers", "fractionally strided" decoders and the mean
squared error, but no decoder kernels: ours are those of the mirrored convolutions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.layers import Layer, StudentSpec
from train.model.student import Trunk, initialise

DEEPEST = "conv4"  # section 4: "the same first four convolutional layers as SoundNet"


class Autoencoder(Trunk):
    """Sound through conv4 and back. Features are shared with `Student`: `features(waveform, ["conv4"])`."""

    def __init__(self, spec: StudentSpec, *, sample_rate: int, seed: int = 0) -> None:
        layers = spec.through(DEEPEST)
        super().__init__(spec, layers, sample_rate=sample_rate)
        self.decoder = _decoder(layers)
        initialise(self, torch.Generator().manual_seed(seed))

    def flops(self, samples: int) -> int:
        total, steps = super().flops(samples), self.spec.steps(samples, DEEPEST)
        for convolution in self.decoder.modules():
            if isinstance(convolution, nn.ConvTranspose1d):
                total += 2 * convolution.weight.numel() * steps  # each step in is multiplied with all of its weights
                steps *= convolution.stride[0]
        return total

    def forward(self, waveform: Tensor) -> Tensor:
        """A scaled waveform (batch, samples) through conv4 and back: (batch, samples)."""
        samples = waveform.shape[-1]
        hidden = self.features(waveform, [DEEPEST])[DEEPEST]  # (batch, channels, steps)
        rebuilt: Tensor = self.decoder(hidden)  # (batch, 1, steps * 1024), never shorter than the waveform
        return rebuilt.squeeze(1)[:, :samples]


def reconstruction(rebuilt: Tensor, waveform: Tensor) -> Tensor:
    """Mean squared error on the scaled waveform (section 4), in float32."""
    return F.mse_loss(rebuilt.float(), waveform.float())


def _decoder(layers: Sequence[Layer]) -> nn.Sequential:
    """One transposed convolution per convolution of the encoder, deepest first: strides 2, 2, 16, 16.

    Each undoes its convolution and the pool that follows it. Kernels are multiples of the strides, so that every sample
    is reached by equally many steps, and the padding makes a layer exactly `stride` times as long as its input.
    """
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1  # of the sound that leaves the decoder
    for following, layer in zip([*layers[1:], None], layers, strict=True):
        if layer.filters is None:
            continue
        stride = layer.stride * (following.stride if following is not None and following.is_pool else 1)
        name = layer.name.replace("conv", "deconv")
        convolution = nn.ConvTranspose1d(
            layer.filters, channels, layer.kernel, stride, padding=(layer.kernel - stride) // 2
        )
        activation = [] if channels == 1 else [("norm", nn.BatchNorm1d(channels)), ("relu", nn.ReLU(inplace=True))]
        blocks[name] = nn.Sequential(OrderedDict([("conv", convolution), *activation]))
        channels = layer.filters
    return nn.Sequential(OrderedDict(reversed(blocks.items())))
