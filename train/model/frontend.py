"""The network as the loop calls it: behind the scaling of its input, shared among ranks, compiled."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from train.model.student import scaled


class Frontend(nn.Module):
    """Hears 16-bit samples (rows, samples), made louder by gain (rows, 1), as its network wants them.

    Scaling belongs into the same compiled graph: what travels through memory then is 16 bits a sample.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveform: Tensor, gain: Tensor | None = None) -> Any:
        return self.network(heard(waveform, gain))


def heard(waveform: Tensor, gain: Tensor | None = None) -> Tensor:
    """The waveform that a network gets: float32 (rows, samples) in [-256, 256], times the gain."""
    return scaled(waveform) if gain is None else scaled(waveform) * gain
