"""The families of sounds, one for each photograph: they share their sounds and differ in what follows what.

Five short sounds stand in a ring, and neighbours follow each other: hum then bell is one family, bell then hum another.
Each sound is in four of the ten families, and a family has its mirror's mean spectrum: whatever hears no order is right
in five cases of ten at best. Every recording has pairs of all families mixed in, and noise about as loud as its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from evaluate.demo.corpus.synthesis import (
    SAMPLE_RATE,
    Sound,
    lay,
    moments,
    noise,
    normal,
    phase,
    ringing,
    silence,
    swell,
    voice,
)

# Decibels against a recording's own pairs: those of all families, and noise.
OTHERS = (-7.0, -2.0)
BACKGROUND = (-2.0, 4.0)


def soundtrack(family: str, seconds: float, rng: Generator) -> NDArray[np.float32]:
    """Stereo sound (2, samples) at SAMPLE_RATE within [-1, 1]: the family's pairs, over those of all, over noise."""
    every_family = list(FAMILIES)
    own = pairs(rng, seconds, lambda: family)
    others = pairs(rng, seconds, lambda: every_family[rng.integers(len(every_family))])
    background = noise(
        rng, seconds, low=rng.uniform(20, 80), high=rng.uniform(4_000, 15_000), slope=rng.uniform(0.5, 1.5)
    )
    mono = own + others * 10 ** (rng.uniform(*OTHERS) / 20) + background * 10 ** (rng.uniform(*BACKGROUND) / 20)
    place = rng.uniform(0.35, 0.65)  # where between left and right
    stereo = np.stack([mono * np.sqrt(1 - place), mono * np.sqrt(place)])
    level = 10 ** (rng.uniform(-30, -20) / 20)
    # A soft ceiling, for where loud ones meet.
    sound_track: NDArray[np.float32] = np.tanh(stereo * level * np.sqrt(2)).astype(np.float32)
    return sound_track


def pairs(rng: Generator, seconds: float, family: Callable[[], str]) -> Sound:
    """A pair about every second, each of the family that is called, at a root mean square of 1 in all."""
    track, every = silence(seconds), rng.uniform(0.8, 1.1)
    for moment in moments(rng, seconds, every=every, jitter=0.1):
        lay(track, moment, rng.uniform(0.7, 1.0) * pair(rng, family()))
    return normal(track)


def pair(rng: Generator, family: str) -> Sound:
    """A family's two sounds, one behind the other, each with a length, pitch and level of its own."""
    return np.concatenate([rng.uniform(0.7, 1.0) * short(rng, sound) for sound in FAMILIES[family]])


def short(rng: Generator, sound: Callable[[Generator, float], Sound]) -> Sound:
    event = normal(sound(rng, rng.uniform(0.18, 0.28)))
    return event * swell(len(event), attack=0.1, release=0.3)


def hum(rng: Generator, seconds: float) -> Sound:
    """A low voice of many harmonics."""
    return voice(phase(np.full(round(seconds * SAMPLE_RATE), rng.uniform(110, 160))), np.arange(1, 13) ** -0.8)


def bell(rng: Generator, seconds: float) -> Sound:
    """A bell's inharmonic partials."""
    hertz = rng.uniform(500, 650)
    return ringing(seconds, [(hertz, 1.0, 0.6), (hertz * 2.74, 0.6, 0.4), (hertz * 5.4, 0.3, 0.3)])


def hiss(rng: Generator, seconds: float) -> Sound:
    """Steam: noise of high frequencies."""
    return noise(rng, seconds, low=rng.uniform(3_000, 3_600), high=rng.uniform(6_000, 8_000))


def thud(rng: Generator, seconds: float) -> Sound:
    """Something heavy: noise of low frequencies."""
    return noise(rng, seconds, low=40, high=rng.uniform(160, 240))


def whistle(rng: Generator, seconds: float) -> Sound:
    """A pea whistle: one tone that warbles."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.sin(phase(rng.uniform(1_500, 2_000) * (1 + 0.03 * np.sin(2 * np.pi * 18 * time))))


# By photograph: which sound comes first, and which second. The order is the order of the corpus.
FAMILIES: dict[str, tuple[Callable[[Generator, float], Sound], Callable[[Generator, float], Sound]]] = {
    "chelsea": (hum, bell),
    "coffee": (bell, hum),
    "rocket": (bell, hiss),
    "motorcycle": (hiss, bell),
    "grass": (hiss, thud),
    "gravel": (thud, hiss),
    "china": (thud, whistle),
    "flower": (whistle, thud),
    "astronaut": (whistle, hum),
    "brick": (hum, whistle),
}
