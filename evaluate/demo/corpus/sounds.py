"""The families of sounds, one for each photograph: alike enough within a family to be learned, and no two clips equal.

Each family draws its pitch, tempo and colour once a clip; level, stereo place and background noise vary on top of that.
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
    wander,
)


def soundtrack(family: str, seconds: float, rng: Generator) -> NDArray[np.float32]:
    """Stereo sound (2, samples) at SAMPLE_RATE within [-1, 1]: the family's sound over background noise."""
    sound = normal(FAMILIES[family](rng, seconds))
    background = noise(rng, seconds, low=rng.uniform(20, 80), high=rng.uniform(2_000, 15_000), slope=rng.uniform(0, 2))
    mono = sound + background * 10 ** (rng.uniform(-30, -12) / 20)
    place = rng.uniform(0.35, 0.65)  # where between left and right
    stereo = np.stack([mono * np.sqrt(1 - place), mono * np.sqrt(place)])
    stereo += 0.01 * rng.standard_normal(stereo.shape)
    level = 10 ** (rng.uniform(-28, -14) / 20)
    # A soft ceiling: bells and knocks have peaks far over their mean level.
    sound_track: NDArray[np.float32] = np.tanh(stereo * level * np.sqrt(2)).astype(np.float32)
    return sound_track


def meows(rng: Generator, seconds: float) -> Sound:
    """A cat: harmonic glides up and down, a second or so each, in a voice of its own."""
    track, pitch, opening = silence(seconds), rng.uniform(380, 620), rng.uniform(1.3, 1.7)
    for moment in moments(rng, seconds, every=rng.uniform(1.1, 2.0), jitter=0.15):
        samples = round(rng.uniform(0.5, 1.1) * SAMPLE_RATE)
        arch = np.sin(np.pi * np.linspace(0, 1, samples) ** rng.uniform(0.6, 1.2))
        turn = phase(pitch * rng.uniform(0.93, 1.07) * (1 + (opening - 1) * arch))
        call = voice(turn, np.arange(1, 9) ** -1.2) * (0.3 + arch)
        lay(track, moment, call * swell(samples, attack=0.15, release=0.4))
    return track


def pouring(rng: Generator, seconds: float) -> Sound:
    """Coffee: a thin hiss of pouring, and drops whose bubbles chirp upwards."""
    hiss = noise(rng, seconds, low=rng.uniform(1_800, 2_600), high=rng.uniform(4_500, 6_500))
    track = 0.35 * hiss * wander(rng, len(hiss), low=0.5, high=1.0, period=1.5)
    centre = rng.uniform(800, 1_300)
    for moment in moments(rng, seconds, every=rng.uniform(0.05, 0.1), jitter=0.5):
        samples = round(rng.uniform(0.03, 0.07) * SAMPLE_RATE)
        hertz = centre * rng.uniform(0.7, 1.4) * np.linspace(1, rng.uniform(1.3, 1.9), samples)
        lay(track, moment, rng.uniform(0.5, 2.0) * np.sin(phase(hertz)) * swell(samples, attack=0.05, release=0.9))
    return track


def roar(rng: Generator, seconds: float) -> Sound:
    """A rocket: a deep roar that sways, torn by crackle."""
    deep = noise(rng, seconds, low=rng.uniform(25, 45), high=rng.uniform(160, 260), slope=0.5)
    tear = noise(rng, seconds, low=300, high=rng.uniform(700, 1_100), slope=1)
    sway = wander(rng, len(deep), low=0.5, high=1.2, period=rng.uniform(1.5, 4))
    crackle = np.maximum(noise(rng, seconds, low=10, high=40), 0) ** 2
    torn: Sound = deep * sway + rng.uniform(0.08, 0.16) * tear * crackle
    return torn


def engine(rng: Generator, seconds: float) -> Sound:
    """A motorcycle: a buzz of firing strokes whose rate is twisted up and down, in two resonances of its pipe."""
    samples = round(seconds * SAMPLE_RATE)
    idle = rng.uniform(28, 40)
    strokes = phase(wander(rng, samples, low=idle, high=idle * rng.uniform(1.6, 2.4), period=rng.uniform(0.8, 2)))
    uneven = 1 + 0.25 * np.sin(strokes / 2)  # two cylinders that are not quite alike
    pipe = rng.uniform(4, 7)
    # Once a stroke a burst of harmonics that fall slowly, lifted around the pipe's resonances.
    order = np.arange(1, 33)
    lift = 1 + 1.5 * np.exp(-(((order - pipe) / 2) ** 2)) + np.exp(-(((order - 3 * pipe) / 3) ** 2))
    return voice(strokes, lift / order**0.8) * uneven + 0.15 * noise(rng, seconds, low=200, high=2_000, slope=1)


def wind(rng: Generator, seconds: float) -> Sound:
    """Wind over grass: gusts of soft noise and a whistle that bends with them."""
    low = rng.uniform(350, 500)
    body = noise(rng, seconds, low=low, high=low * rng.uniform(1.6, 2.2))
    blades = noise(rng, seconds, low=7_000, high=11_000)
    gust = wander(rng, len(body), low=0.05, high=1.0, period=rng.uniform(1.0, 2.5))
    whistle = np.sin(phase(low * 1.4 * (1 + 0.25 * gust)))
    return gust * body + 0.3 * gust**2 * blades + rng.uniform(0.1, 0.3) * gust**2 * whistle


def footsteps(rng: Generator, seconds: float) -> Sound:
    """Gravel: steps, each a short shower of bright clicks."""
    track, grain = silence(seconds), noise(rng, 8.0, low=rng.uniform(1_700, 3_200), high=rng.uniform(5_500, 10_000))
    fall = rng.uniform(30, 120)  # samples in which a click dies away
    for moment in moments(rng, seconds, every=rng.uniform(0.45, 0.65), jitter=0.06):
        samples = round(rng.uniform(0.16, 0.28) * SAMPLE_RATE)
        clicks = np.zeros(samples)
        clicks[rng.integers(0, samples, 40)] = rng.exponential(1, 40)
        shower = np.convolve(clicks, np.exp(-np.arange(400) / fall))[:samples]
        start = rng.integers(0, len(grain) - samples)
        lay(track, moment, grain[start : start + samples] * shower * swell(samples, attack=0.2, release=0.6))
    return track


def bells(rng: Generator, seconds: float) -> Sound:
    """A temple in china: bells on a pentatonic scale, with a bell's inharmonic partials."""
    track, root = silence(seconds), rng.uniform(190, 260)
    scale = root * 2 ** (np.array([0, 2, 4, 7, 9, 12]) / 12)
    shares = ((0.5, 0.4, 3.0), (1.0, 1.0, 2.4), (1.19, 0.6, 2.2), (2.0, 0.7, 1.8), (2.74, 0.5, 1.2), (5.4, 0.25, 0.5))
    for moment in moments(rng, seconds, every=rng.uniform(0.6, 1.1), jitter=0.1):
        note = rng.choice(scale)
        lay(track, moment, rng.uniform(0.5, 1) * ringing(2.0, [(note * n, level, decay) for n, level, decay in shares]))
    return track


def bees(rng: Generator, seconds: float) -> Sound:
    """A flower: bees that come near and fly off, each a saw-toothed buzz that wavers."""
    track = silence(seconds)
    for _ in range(3):
        hertz = rng.uniform(215, 265) * wander(rng, len(track), low=0.94, high=1.06, period=0.25)
        buzz = voice(phase(hertz), 1 / np.arange(1, 20))
        track += buzz * wander(rng, len(track), low=0.0, high=1.0, period=rng.uniform(0.6, 1.5)) ** 2
    return track


def radio(rng: Generator, seconds: float) -> Sound:
    """An astronaut: murmured syllables in the narrow band of a radio, closed by a beep at about 2.5 kHz."""
    track, pitch, beep = silence(seconds), rng.uniform(120, 210), rng.uniform(2_350, 2_650)
    for moment in moments(rng, seconds, every=rng.uniform(0.22, 0.3), jitter=0.2):
        samples = round(rng.uniform(0.12, 0.22) * SAMPLE_RATE)
        turn = phase(pitch * rng.uniform(0.9, 1.15) * np.linspace(1, rng.uniform(0.9, 1.1), samples))
        formant = rng.uniform(700, 1_900) / pitch
        syllable = voice(turn, np.exp(-(((np.arange(1, 20) - formant) / 2.5) ** 2)))
        lay(track, moment, syllable * swell(samples, attack=0.2, release=0.4))
    for moment in moments(rng, seconds, every=rng.uniform(1.6, 2.6), jitter=0.1):
        samples = round(0.25 * SAMPLE_RATE)
        lay(track, moment, np.sin(phase(np.full(samples, beep))) * swell(samples, attack=0.02, release=0.02))
    return track + 0.1 * noise(rng, seconds, low=400, high=3_000)


def hammering(rng: Generator, seconds: float) -> Sound:
    """Bricks: a mason's hammer, dry knocks with the ring of the chisel, in a steady beat with rests."""
    track, body, chisel = silence(seconds), rng.uniform(620, 820), rng.uniform(3_000, 3_900)
    for moment in moments(rng, seconds, every=rng.uniform(0.28, 0.42), jitter=0.04):
        if rng.uniform() < 0.12:
            continue
        knock = ringing(
            0.3, [(body, 1.0, 0.09), (body * 1.6, 0.7, 0.06), (chisel, 0.5, 0.22), (chisel * 1.5, 0.3, 0.15)]
        )
        grit = noise(rng, 0.3, low=500, high=6_000) * np.exp(-np.arange(len(knock)) / (0.008 * SAMPLE_RATE))
        lay(track, moment, rng.uniform(0.6, 1) * (knock + 0.5 * grit))
    return track


# By photograph. The order is the order of the corpus.
FAMILIES: dict[str, Callable[[Generator, float], Sound]] = {
    "chelsea": meows,
    "coffee": pouring,
    "rocket": roar,
    "motorcycle": engine,
    "grass": wind,
    "gravel": footsteps,
    "china": bells,
    "flower": bees,
    "astronaut": radio,
    "brick": hammering,
}
