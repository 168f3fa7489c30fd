"""What the families of sounds are made from: shaped noise, voices, ringing partials, events laid on a track.

All sound here is mono float64 (samples,) at SAMPLE_RATE and of any level; `evaluate.demo.corpus.sounds` sets the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SAMPLE_RATE = 44_100

Sound = NDArray[np.floating[Any]]


def silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * SAMPLE_RATE))


def noise(rng: Generator, seconds: float, *, low: float, high: float, slope: float = 0.0) -> Sound:
    """Gaussian noise between two frequencies (Hz) with soft edges; its power falls by `slope` times 3 dB an octave."""
    samples = round(seconds * SAMPLE_RATE)
    # The transform's length has only the factors 2 and 3 or so: lengths with a large prime are slow.
    padded = 1 << max(samples - 1, 1).bit_length()
    spectrum = rng.standard_normal(padded // 2 + 1) + 1j * rng.standard_normal(padded // 2 + 1)
    hertz = np.maximum(np.fft.rfftfreq(padded, 1 / SAMPLE_RATE), 1.0)
    gain = hertz ** (-slope / 2) / np.sqrt(1 + (low / hertz) ** 8) / np.sqrt(1 + (hertz / high) ** 8)
    return normal(np.fft.irfft(spectrum * gain, padded)[:samples])


def phase(hertz: Sound) -> Sound:
    """The phase in radians of an oscillator whose frequency is given sample by sample."""
    return np.cumsum(hertz) * (2 * np.pi / SAMPLE_RATE)


def voice(turn: Sound, levels: Sound) -> Sound:
    """An oscillator with harmonics 1, 2, ... of these levels, at phases `turn` (samples,)."""
    grid = np.linspace(0, 2 * np.pi, 2_048)
    harmonics = np.arange(1, len(levels) + 1)
    # One period is computed and looked up: 30 sines a sample would cost more than all the rest of the corpus.
    # The phases n * n keep the harmonics from adding up to one click.
    period = np.sin(np.outer(grid, harmonics) + harmonics**2) @ levels
    sound: Sound = np.interp(turn % (2 * np.pi), grid, period)
    return sound


def ringing(seconds: float, partials: Sequence[tuple[float, float, float]]) -> Sound:
    """Decaying sines, each (Hz, level, seconds until it has fallen by 60 dB)."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [level * np.exp(-6.9 * time / decay) * np.sin(2 * np.pi * hertz * time) for hertz, level, decay in partials]
    sound: Sound = np.sum(tones, axis=0)
    return sound


def swell(samples: int, *, attack: float, release: float) -> Sound:
    """A level (samples,) that rises to 1 and falls to 0 within shares `attack` and `release` of its length."""
    position = np.linspace(0, 1, samples)
    return np.clip(np.minimum(position / attack, (1 - position) / release), 0, 1)


def moments(rng: Generator, seconds: float, *, every: float, jitter: float) -> Sound:
    """Times in seconds of events that come about `every` so often; `jitter` is the deviation as a share of `every`."""
    count = int(seconds / every) + 1
    times = (np.arange(count) + rng.uniform(0, 1)) * every + rng.normal(0, jitter * every, count)
    return times[(times >= 0) & (times < seconds)]


def lay(track: Sound, second: float, event: Sound) -> None:
    """Add an event to a track in place; what would ring on past the track's end is cut."""
    start = int(second * SAMPLE_RATE)
    part = event[: max(len(track) - start, 0)]
    track[start : start + len(part)] += part


def normal(sound: Sound) -> Sound:
    """The same sound at a root mean square of 1; silence stays silence."""
    level = np.sqrt(np.mean(sound**2))
    return sound / level if level > 0 else sound
