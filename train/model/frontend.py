"""The network behind the scaling of its input: what the training loop calls, shares among ranks and compiles."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from train.model.student import scaled


class Frontend(nn.Module):
    """A network that takes 16-bit samples: int16 (rows, samples), times a gain (rows, 1) where there is one.

    Scaling belongs into the same compiled graph: what travels through memory then is 16 bits a sample.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveform: Tensor, gain: Tensor | None = None) -> Any:
        return self.network(network_input(waveform, gain))


def network_input(waveform: Tensor, gain: Tensor | None = None) -> Tensor:
    """int16 (rows, samples) -> float32 (rows, samples) in [-256, 256], times the gain (rows, 1)."""
    return scaled(waveform) if gain is None else scaled(waveform) * gain
