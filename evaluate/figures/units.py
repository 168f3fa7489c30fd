"""Figure 6: the clips that excite single hidden units most, found over whole shards in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.model import run_layers
from pipeline.report.sample import SampledShard
from shards.format.example import Example
from shards.format.manifest import Manifest
from shards.format.sidefile import finished
from train.model.student import Trunk

CLIPS_PER_UNIT = 4
EXCERPT_SECONDS = 3.0  # around the unit's most excited step


@dataclass(frozen=True)
class Peak:
    """Where a unit is excited: a clip by shard and number, and the step of its layer."""

    activation: float
    shard: str
    clip: int
    step: int


@dataclass(frozen=True)
class Unit:
    """A unit of the layer with its strongest peaks, at most one a video; `selectivity` is their mean in deviations."""

    index: int
    selectivity: float
    peaks: list[Peak]


class Peaks:
    """The strongest activations of every unit so far: memory for units x CLIPS_PER_UNIT, however many clips come."""

    def __init__(self, units: int, keep: int = CLIPS_PER_UNIT) -> None:
        self._values = np.full((units, keep), -np.inf)
        self._places = np.empty((units, keep), object)
        self._videos = np.full((units, keep), "", object)
        self._clips, self._sum, self._squares = 0, np.zeros(units), np.zeros(units)

    def add(self, activations: NDArray[np.float32], shard: str, clip: int, video: str) -> None:
        """One clip's activations (units, steps)."""
        highest, steps = activations.max(axis=1).astype(np.float64), activations.argmax(axis=1)
        self._clips += 1
        self._sum += highest
        self._squares += highest**2
        weakest = self._values.argmin(axis=1)
        for unit in np.nonzero(highest > self._values[np.arange(len(highest)), weakest])[0]:
            (same,) = np.nonzero(self._videos[unit] == video)
            place = same[0] if len(same) else weakest[unit]
            if highest[unit] > self._values[unit, place]:
                self._values[unit, place], self._videos[unit, place] = highest[unit], video
                self._places[unit, place] = (shard, clip, int(steps[unit]))

    def most_selective(self, count: int) -> list[Unit]:
        """The units whose strongest clips stand out most from what the unit does in a clip on average."""
        mean = self._sum / max(self._clips, 1)
        deviation = np.sqrt(np.maximum(self._squares / max(self._clips, 1) - mean**2, 0))
        kept = np.where(np.isfinite(self._values), self._values, np.nan)
        selectivity = np.where(deviation > 0, (np.nanmean(kept, axis=1) - mean) / np.maximum(deviation, 1e-12), 0.0)
        chosen = np.argsort(-selectivity, kind="stable")[:count]
        return [Unit(int(unit), float(selectivity[unit]), self._peaks(unit)) for unit in chosen]

    def _peaks(self, unit: int) -> list[Peak]:
        order = np.argsort(-self._values[unit], kind="stable")
        found = [(float(self._values[unit, at]), self._places[unit, at]) for at in order]
        return [Peak(value, *place) for value, place in found if place is not None]


def find_units(network: Trunk, layer: str, shards: Path, count: int) -> list[Unit]:
    """The most selective units of a layer over all clips in a shard folder. Raises UserError."""
    rate, peaks = Manifest.load(shards).clip.sample_rate, None
    shortest = network.min_samples(layer)
    for side in finished(shards):
        shard = SampledShard(shards, side.shard, [])
        for clip in range(len(side.keys)):
            example = shard.example(clip, rate)
            waveform = example.waveform
            repeated = np.resize(waveform, max(shortest, len(waveform)))
            activations = run_layers(network, repeated[None], [layer])[layer][0]  # (units, steps)
            peaks = peaks or Peaks(len(activations))
            peaks.add(activations, side.shard, clip, example.meta.video)
    return [] if peaks is None else peaks.most_selective(count)


def excerpt(network: Trunk, layer: str, example: Example, step: int) -> NDArray[np.int16]:
    """The seconds around the middle of one step's receptive field, int16 (samples,), inside the clip."""
    samples = min(round(EXCERPT_SECONDS * network.sample_rate), len(example.waveform))
    middle = round(network.spec.centre(step, layer)) % len(example.waveform)  # a short clip was repeated
    first = min(max(0, middle - samples // 2), len(example.waveform) - samples)
    return example.waveform[first : first + samples]
