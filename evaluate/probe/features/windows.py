"""Excerpts of recordings as the classifier sees them: consecutive steps of a layer, flattened to one vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shards.errors import UserError
from train.model.student import Trunk

HOP_SECONDS = 8192 / 22_050  # 0.37 s, one step of pool5: the authors move their windows by that


@dataclass(frozen=True)
class Windows:
    """Feature vectors float32 (windows, dimensions) and the recording each belongs to, int64 (windows,), ascending."""

    values: NDArray[np.float32]
    recordings: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.recordings.shape != self.values.shape[:1]:
            raise ValueError(f"{self.values.shape} values do not go with {self.recordings.shape} recordings")

    def of(self, recordings: NDArray[np.int64]) -> Windows:
        """The windows of these recordings (ascending), which are then numbered 0, 1, ..."""
        position = np.full(int(self.recordings.max()) + 1, -1)
        position[recordings] = np.arange(len(recordings))
        chosen = position[self.recordings]
        return Windows(self.values[chosen >= 0], chosen[chosen >= 0])

    def mean(self, scores: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (windows, classes) averaged over each recording's windows: (recordings, classes)."""
        counts = np.bincount(self.recordings)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        means: NDArray[np.float64] = np.add.reduceat(scores, starts, axis=0, dtype=np.float64) / counts[:, None]
        return means

    def averaged(self) -> Windows:
        """Each recording's mean as its one window."""
        means = self.mean(self.values).astype(np.float32)
        return Windows(means, np.arange(len(means)))


@dataclass(frozen=True)
class Cut:
    """`steps` consecutive steps of a layer make a window, and the next one begins `hop` steps later."""

    steps: int
    hop: int

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(channels, steps) -> (windows, channels * self.steps), from the start on; a rest at the end is left out."""
        channels = len(features)
        views = sliding_window_view(features, self.steps, axis=1)[:, :: self.hop]  # (channels, windows, self.steps)
        return views.transpose(1, 0, 2).reshape(-1, channels * self.steps)


def cut_for(network: Trunk, layer: str, *, seconds: float, window_seconds: float) -> Cut:
    """How a layer is cut, for recordings of `seconds`: ceil(window_seconds / seconds * T) of the T steps they have.

    The hop is the larger of 0.37 s and one step. The output layer is taken whole: no shorter sound than 9.5 s has
    conv8 at all. Raises UserError where the recordings are too short for the layer.
    """
    samples = round(seconds * network.sample_rate)
    network.require_length(samples, layer)
    steps = network.output_steps(samples, layer)
    hop = max(1, round(HOP_SECONDS * network.sample_rate / network.spec.stride(layer)))
    if layer == network.spec.output.name:
        return Cut(steps, hop)
    return Cut(
        math.ceil(round(window_seconds / seconds * steps, 6)), hop
    )  # 24 steps may come out as 24.000000000000004


def join(parts: Sequence[NDArray[np.float32]]) -> Windows:
    """Each recording's windows (windows, dimensions), put together in order."""
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise UserError(f"the recordings' windows have different sizes {sorted(widths)}")
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Windows(np.concatenate(parts), owners)
