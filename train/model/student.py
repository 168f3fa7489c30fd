"""The student: a stack of layers over the raw waveform, and one output convolution per teacher head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from shards.errors import UserError
from train.model.blocks import block_of
from train.model.layers import Layer, StudentSpec
from train.model.polyphase import is_fused, pooled

# Full scale of the waveform (paper section 2: [-256, 256]). The authors' training and feature extraction multiply
# 32-bit samples by 2^-23, which is this; their two eval scripts say 2^-22 (512), a slip: the published batch-norm
# statistics fit 256.
SCALE = 256.0


def scaled(waveform: Tensor) -> Tensor:
    """16-bit samples as the networks take them: int16 of any shape -> float32 in [-256, 256]."""
    return waveform.float() * (SCALE / 32768)


class Trunk(nn.Module):
    """The hidden layers. `Student` and `Autoencoder` put their outputs on top and share features and lengths.

    A convolution's features are taken after its batch norm and ReLU, under the convolution's name.
    """

    def __init__(self, spec: StudentSpec, layers: Sequence[Layer], *, sample_rate: int) -> None:
        super().__init__()
        self.spec, self.sample_rate = spec, sample_rate
        self.channels = 1  # of the last layer
        self.blocks = nn.ModuleDict()
        for layer in layers:
            self.blocks[layer.name] = block_of(layer, self.channels)
            self.channels = layer.filters or self.channels

    @property
    def layers(self) -> list[str]:
        """The names that `features` knows, shallow to deep."""
        return list(self.blocks)

    def output_steps(self, samples: int, layer: str | None = None) -> int:
        """Steps of `layer` (None: the deepest) for that many samples, 0 where there are none."""
        return self.spec.steps(samples, layer or self.layers[-1])

    def min_samples(self, layer: str | None = None) -> int:
        """The shortest sound that reaches `layer` (None: the deepest)."""
        return self.spec.min_samples(layer or self.layers[-1])

    def features(self, waveform: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """{layer: (batch, channels, steps)} of a scaled waveform (batch, samples), in the order asked for.

        One pass, which ends at the deepest layer asked for. Raises UserError for an unknown layer and for a
        sound too short for one of them. Put the network in eval mode first: in train mode statistics are the batch's.
        """
        deepest = self._deepest(layers)
        self.require_length(waveform.shape[-1], deepest)
        found = {}
        for name, hidden in self._outputs(waveform, layers):
            if name in layers:
                found[name] = hidden
            if name == deepest:
                break
        return {layer: found[layer] for layer in layers}

    def _outputs(self, waveform: Tensor, wanted: Sequence[str] = ()) -> Iterator[tuple[str, Tensor]]:
        """Layer by layer its name and output; a convolution that is not wanted may be one with its pool."""
        hidden = waveform.unsqueeze(1)  # (batch, 1, samples)
        coming = list(self.blocks.items())
        while coming:
            name, block = coming.pop(0)
            following, pool = coming[0] if coming else ("", None)
            if name not in wanted and pool is not None and is_fused(block, pool, hidden):
                hidden, name = pooled(block, pool, hidden), following
                coming.pop(0)
            else:
                hidden = block(hidden)
            yield name, hidden

    def flops(self, samples: int) -> int:
        """Multiplications and additions in the convolutions, for one sound of that many samples on its way forward."""
        weights = {name: _weights(block) for name, block in self.blocks.items()}
        return sum(2 * count * self.spec.steps(samples, name) for name, count in weights.items())

    def require_length(self, samples: int, layer: str) -> None:
        """Raises UserError where a sound of that many samples does not reach `layer`."""
        shortest = self.min_samples(layer)
        if samples < shortest:
            raise UserError(
                f"{layer} of {self.spec.name} needs at least {shortest} samples ({shortest / self.sample_rate:.3f} s), "
                f"the sound has {samples} ({samples / self.sample_rate:.3f} s): repeat it, or take a shallower layer"
            )

    def _deepest(self, layers: Sequence[str]) -> str:
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown or not layers:
            wanted = ", ".join(unknown) or "without a name"
            raise UserError(f"{self.spec.name} has no layer {wanted}: choose among {', '.join(self.layers)}")
        return max(layers, key=self.layers.index)


class Student(Trunk):
    """SoundNet (paper section 3.1, Tables 1 and 2). Fully convolutional: any length that reaches the output layer.

    `heads` maps a teacher's head to its number of classes. `seed` draws the paper's initialisation.
    """

    def __init__(self, spec: StudentSpec, heads: Mapping[str, int], *, sample_rate: int, seed: int = 0) -> None:
        if not heads:
            raise UserError(f"{spec.name} needs at least one head to learn from: learn_from=[...]")
        super().__init__(spec, spec.layers, sample_rate=sample_rate)
        output = spec.output
        self.heads = nn.ModuleDict()
        for head, classes in heads.items():
            self.heads[head] = nn.Conv1d(self.channels, classes, output.kernel, output.stride, output.padding)
        initialise(self, torch.Generator().manual_seed(seed))

    @property
    def layers(self) -> list[str]:
        return [*self.blocks, self.spec.output.name]

    def flops(self, samples: int) -> int:
        return super().flops(samples) + 2 * _weights(self.heads) * self.spec.steps(samples)

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """{head: logits (batch, classes, steps)} of a waveform (batch, samples), scaled to [-256, 256]."""
        self.require_length(waveform.shape[-1], self.spec.output.name)
        *_, (_, hidden) = self._outputs(waveform)
        return {head: convolution(hidden) for head, convolution in self.heads.items()}

    def features(self, waveform: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """As `Trunk.features`. The output layer gives log posteriors: log-softmax per head, heads one after the other.

        Not the logits, whose common offset means nothing (all negative in the published weights, so that the authors'
        scripts, which keep what is above 0, find no conv8 at all). The logits are what calling the student returns.
        """
        output = self.spec.output.name
        if output not in layers:
            return super().features(waveform, layers)
        self.require_length(waveform.shape[-1], self._deepest(layers))
        last = list(self.blocks)[-1]
        found = super().features(waveform, [*(layer for layer in layers if layer != output), last])
        logits = [convolution(found[last]) for convolution in self.heads.values()]
        found[output] = torch.cat([each.float().log_softmax(dim=1) for each in logits], dim=1)
        return {layer: found[layer] for layer in layers}


def _weights(module: nn.Module) -> int:
    return sum(each.weight.numel() for each in module.modules() if isinstance(each, nn.Conv1d))


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Weights N(0, 0.01) (paper section 3.4), batch-norm weights N(1, 0.02), all biases 0 (the authors' code)."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
        else:
            continue
        assert module.bias is not None
        nn.init.zeros_(module.bias)
