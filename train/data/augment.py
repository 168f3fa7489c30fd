"""Augmentation of clips, off by default (the paper names none for this stage): a roll of the sound, and gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STREAM = 1  # sets these random numbers apart from those of the order of training


@dataclass(frozen=True)
class Augment:
    """Drawn for each clip from (seed, position in the stream) alone: the same on every rank, and after a resumption."""

    roll: bool = False  # roll the sound by any number of samples; the windows' labels follow in proportion
    gain_db: float = 0.0  # make the sound louder or softer, by up to so many dB

    def __post_init__(self) -> None:
        if self.gain_db < 0:
            raise ValueError(f"augment.gain_db is at least 0, not {self.gain_db}")

    def draw(
        self, seed: int, positions: NDArray[np.int64], samples: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """(shifts in samples (rows,), below `samples`; gains (rows,) or None where there is no gain)."""
        shifts = np.zeros(len(positions), np.int64)
        if not self.roll and not self.gain_db:
            return shifts, None
        uniform = np.array([_uniform(seed, int(position)) for position in positions])  # (rows, 2) in [0, 1)
        if self.roll:
            shifts = (uniform[:, 0] * samples).astype(np.int64)
        gains = 10 ** (self.gain_db * (2 * uniform[:, 1] - 1) / 20) if self.gain_db else None
        return shifts, gains


def _uniform(seed: int, position: int) -> NDArray[np.float64]:
    # Raw bits, which numpy promises across versions; Generator's methods it does not.
    bits = np.random.PCG64(np.random.SeedSequence([seed, STREAM], spawn_key=(position,))).random_raw(2)
    return (bits >> np.uint64(11)).astype(np.float64) / 2**53
