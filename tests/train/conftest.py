"""A student of three layers and shards of a few seconds, small enough to train on in a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from shards.clip import ClipSpec
from shards.example import ClipMeta, Example
from shards.manifest import Manifest, TeacherCard
from shards.writer import ShardWriter
from train.layers import Layer, StudentSpec

CLIP = ClipSpec(sample_rate=1000, seconds=2.0, windows=4)
HEADS = {"objects": 7, "scenes": 5}
MakeShards = Callable[..., Path]


@pytest.fixture
def spec() -> StudentSpec:
    """2000 samples / 250 / 62 / 15 / 4 steps."""
    layers = [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4), Layer("conv2", 8, 4, 4, 12)]
    return StudentSpec("tiny", layers, Layer("conv3", 6, 3))


@pytest.fixture
def make_shards() -> MakeShards:
    """make_shards(folder, {"train-000000": 5, ...}): sound is a tone per class, posteriors name it; a third are short."""
    return write_shards


def write_shards(folder: Path, clips: Mapping[str, int], *, seed: int = 0, loud: float = 8000.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    cards = {
        head: TeacherCard("net", "net.pth", "0" * 64, {}, tuple(f"{head} {index}" for index in range(count)))
        for head, count in HEADS.items()
    }
    Manifest(CLIP, "small", cards, "wav", "none", "exact", False, 0.1, 0).save(folder)
    for shard, count in clips.items():
        writer = ShardWriter(folder, shard, sample_rate=CLIP.sample_rate)
        for index in range(count):
            windows = 2 if index % 3 == 2 else CLIP.windows
            samples = np.arange(CLIP.window_samples * windows)
            tone = int(random.integers(5))
            sound = loud * np.sin(2 * np.pi * samples * (20 + 60 * tone) / CLIP.sample_rate)
            waveform = (sound + random.normal(0, loud / 20, len(samples))).astype(np.int16)
            posteriors = {
                head: _near(random, tone, windows, classes).astype(np.float16) for head, classes in HEADS.items()
            }
            meta = ClipMeta("v", "v.mp4", 1, "0" * 64, index, 0.0, 2.0, [], [])
            writer.write(Example(f"{shard}%2Emp4-{index:05d}", waveform, posteriors, meta))
        writer.finish()
    return folder


def _near(random: np.random.Generator, tone: int, windows: int, classes: int) -> np.ndarray:
    """Posteriors (windows, classes) that favour the class of the tone."""
    weights = np.ones(classes)
    weights[tone] = 20.0
    return random.dirichlet(weights, windows)
