"""Which clips are read: a choice by their sound's level and by what was given of them; the shards stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.format.sidefile import SideFile
from shards.media.levels import SILENCE


@dataclass(frozen=True)
class Keep:
    """A clip is kept where all of this holds; by default every clip is. Silence is below any level."""

    min_peak_db: float | None = None  # take clips whose loudest sample is at least so loud, in dBFS, as -50; null: any
    min_rms_db: float | None = None  # take clips whose mean power is at least so much, in dBFS; null: any
    # take clips by columns of the list of videos: 'keep.given={class: [dog, cat]}'
    given: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, level in (("min_peak_db", self.min_peak_db), ("min_rms_db", self.min_rms_db)):
            if level is not None and not SILENCE <= level <= 0:
                raise ValueError(f"keep.{name} is in dBFS, from {SILENCE:g} to 0, not {level:g}")
        for column, values in self.given.items():
            if not values:
                raise ValueError(f"keep.given.{column} names no value: no clip could be kept")

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.chosen.items()) or "every clip"

    @property
    def chosen(self) -> dict[str, Any]:
        """What is asked for, by setting: nothing where every clip is kept."""
        levels = {"min_peak_db": self.min_peak_db, "min_rms_db": self.min_rms_db}
        chosen: dict[str, Any] = {name: level for name, level in levels.items() if level is not None}
        return chosen | {f"given.{column}": sorted(set(values)) for column, values in sorted(self.given.items())}

    def of(self, side: SideFile) -> NDArray[np.bool_]:
        """Which clips of a shard are kept, (clips,). Raises ValueError or TypeError where the side file cannot say."""
        kept = np.ones(len(side.keys), np.bool_)
        if not self.chosen:
            return kept
        if not len(side.keys) == len(side.peak_db) == len(side.rms_db) == len(side.given):
            raise ValueError("it has not a peak_db, rms_db and given of each clip")
        for least, column in ((self.min_peak_db, side.peak_db), (self.min_rms_db, side.rms_db)):
            if least is not None:
                kept &= _decibels(column) >= least
        for column_name, values in self.given.items():
            kept &= np.fromiter((given.get(column_name) in values for given in side.given), np.bool_, len(kept))
        return kept


def _decibels(column: list[float]) -> NDArray[np.float64]:
    levels = np.array(column, np.float64)
    possible = (levels >= SILENCE) & (levels <= 0)
    if not possible.all():
        raise ValueError(f"a level of {levels[~possible][0]:g} dBFS cannot be")
    return levels
