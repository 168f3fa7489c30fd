"""Small shard folders of random sound and random posteriors, made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example
from shards.format.manifest import Manifest, TeacherCard
from shards.format.writer import ShardWriter

CLIP = ClipSpec(sample_rate=1000, seconds=2.0, windows=4)
MakeShards = Callable[..., Path]


Random = np.random.Generator
Content = tuple[NDArray[np.int16], dict[str, NDArray[np.float16]]]


@pytest.fixture
def make_shards() -> MakeShards:
    """make_shards(folder, {"train-000000": 5, ...}) -> folder. Every third clip is half as long as the others."""
    return write_shards


def noise(random: Random, windows: int, heads: Mapping[str, int]) -> Content:
    """Sound, and posteriors (windows, classes) of each head, that know nothing of each other."""
    posteriors = {head: random.dirichlet(np.ones(count), windows).astype(np.float16) for head, count in heads.items()}
    return random.integers(-(2**15), 2**15, CLIP.window_samples * windows, dtype=np.int16), posteriors


def write_shards(
    folder: Path,
    clips: Mapping[str, int],
    *,
    audio: str = "wav",
    heads: Mapping[str, int] = {"objects": 7, "scenes": 5},
    teacher_set: str = "small",
    seed: int = 0,
    labels_only: bool = False,
    content: Callable[[Random, int, Mapping[str, int]], Content] = noise,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    cards = {
        head: TeacherCard("net", "net.pth", "0" * 64, {}, tuple(f"class {index}" for index in range(count)))
        for head, count in heads.items()
    }
    Manifest(CLIP, teacher_set, cards, "float32", audio, "none", "exact", False, 0.1, 0).save(folder)
    for shard, count in clips.items():
        writer = ShardWriter(folder, shard, sample_rate=CLIP.sample_rate, audio=audio)
        for index in range(count):
            key = f"{shard}%2Emp4-{index:05d}"
            waveform, posteriors = content(random, 2 if index % 3 == 2 else CLIP.windows, heads)
            if labels_only:
                writer.write_labels(key, len(waveform), posteriors)
            else:
                meta = ClipMeta("v", "v.mp4", 1, "0" * 64, index, 0.0, 2.0, [], [])
                writer.write(Example(key, waveform, posteriors, meta))
        writer.finish()
    return folder
