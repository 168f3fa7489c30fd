"""A sound of any length in clips as long as those a student was trained on: at most one clip in memory at a time.

A student is asked about what it knows, whole clips. The published weights are the reason: 20 s of training never used
conv7's 15th step, and where an output step reaches conv7's last one (10, 13, 16, 19, 22 s ...) it answers nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """int16 (samples,) that stand at `first` in the sound; what lies before `fresh` was in the clip before."""

    waveform: NDArray[np.int16]
    first: int
    fresh: int
    sound: int  # samples that are the sound's own; behind them it begins again

    @property
    def end(self) -> int:
        """One past the sound's last sample in this clip."""
        return self.first + self.sound


def clips_of(pieces: Iterable[NDArray[np.int16]], samples: int) -> Iterator[Clip]:
    """Clips of `samples`, one behind the other; the last one reaches back to be whole.

    A sound shorter than a clip is repeated in a circle, as in training. No sound gives no clip.
    """
    held, before, first = np.empty(0, np.int16), None, 0
    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) >= samples:
            yield Clip(held[:samples], first, first, samples)
            before, held, first = held[:samples], held[samples:], first + samples
    if not len(held):
        return
    if before is None:
        yield Clip(np.resize(held, samples), 0, 0, len(held))
    else:
        yield Clip(np.concatenate([before[len(held) :], held]), first + len(held) - samples, first, samples)
