"""Figure 6's search against a plain sort over all clips, and its excerpts against the layer's receptive field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.figures.units import Peaks, excerpt, find_units
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example
from shards.format.manifest import Manifest, TeacherCard
from shards.format.writer import ShardWriter
from train.checkpoint.checkpoint import load_network
from train.model.student import scaled


def example(index: int, samples: int) -> Example:
    waveform = np.random.default_rng(index).integers(-9000, 9000, samples).astype(np.int16)
    meta = ClipMeta(f"v{index}", f"v{index}.mp4", 1, "0" * 64, 0, 0.0, samples / 8000, [], [])
    return Example(f"v{index}-0", waveform, {"objects": np.full((1, 3), 1 / 3, np.float16)}, meta)


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, list[Example]]:
    card = TeacherCard("none", "none", "", {}, ("a", "b", "c"))
    manifest = Manifest(
        ClipSpec(8000, 2.0, 1), "none", {"objects": card}, "float32", "wav", "none", "exact", False, 0.0, 0
    )
    manifest.save(tmp_path)
    examples = [example(index, 16_000 if index % 3 else 6_000) for index in range(11)]
    for shard in range(2):
        writer = ShardWriter(tmp_path, f"train-{shard:06}", sample_rate=8000)
        for each in examples[6 * shard : 6 * shard + 6]:
            writer.write(each)
        writer.finish()
    return tmp_path, examples


def test_peaks_against_sorting_everything(checkpoint: Path, shards: tuple[Path, list[Example]]) -> None:
    folder, examples = shards
    network, _ = load_network(checkpoint)
    highest = []
    with torch.no_grad():
        for each in examples:
            outputs = network.features(scaled(torch.from_numpy(each.waveform)[None]), ["conv2"])["conv2"][0]
            highest.append((outputs.max(dim=1).values.numpy(), outputs.argmax(dim=1).numpy()))
    activations = np.stack([values for values, _ in highest])  # (clips, units)
    units = find_units(network, "conv2", folder, 8)
    assert sorted(unit.index for unit in units) == list(range(8))
    top = np.sort(activations, axis=0)[::-1][:4]
    selectivity = (top.mean(axis=0) - activations.mean(axis=0)) / activations.std(axis=0)
    assert [unit.selectivity for unit in units] == pytest.approx(sorted(selectivity, reverse=True), rel=1e-3)
    for unit in units:
        order = np.argsort(-activations[:, unit.index])[:4]
        assert [6 * int(peak.shard[-1]) + peak.clip for peak in unit.peaks] == order.tolist()
        assert [peak.step for peak in unit.peaks] == [highest[clip][1][unit.index] for clip in order]


def test_memory_does_not_grow_with_the_clips() -> None:
    peaks = Peaks(3, keep=2)
    generator = np.random.default_rng(0)
    everything = generator.normal(size=(500, 3)).astype(np.float32)
    for clip, values in enumerate(everything):
        peaks.add(values[:, None], "train-000000", clip, f"v{clip}")
    assert all(len(unit.peaks) == 2 for unit in peaks.most_selective(3))
    assert peaks._values.size == 6 and peaks._places.size == 6


def test_a_video_is_shown_once_in_a_unit() -> None:
    """Its strongest clip stands for it, wherever that comes; of fewer videos there are fewer clips."""
    peaks = Peaks(1, keep=2)
    for clip, (video, value) in enumerate([("a", 5.0), ("a", 7.0), ("b", 1.0), ("a", 6.0), ("c", 2.0), ("b", 3.0)]):
        peaks.add(np.array([[value]], np.float32), "train-000000", clip, video)
    (unit,) = peaks.most_selective(1)
    assert [(peak.activation, peak.clip) for peak in unit.peaks] == [(7.0, 1), (3.0, 5)]
    alone = Peaks(1, keep=2)
    for clip in range(3):
        alone.add(np.array([[float(clip)]], np.float32), "train-000000", clip, "a")
    assert [peak.clip for peak in alone.most_selective(1)[0].peaks] == [2]


def test_a_unit_that_never_changes_is_not_selective() -> None:
    peaks = Peaks(2, keep=2)
    for clip in range(5):
        peaks.add(np.array([[0.0], [float(clip)]], np.float32), "train-000000", clip, f"v{clip}")
    first, second = peaks.most_selective(2)
    assert (first.index, second.index, second.selectivity) == (1, 0, 0.0)


def test_the_excerpt_surrounds_the_receptive_field_of_the_step(checkpoint: Path) -> None:
    network, _ = load_network(checkpoint)
    clip = example(1, 80_000)
    clip.waveform[:] = np.arange(80_000) % 30_000
    sound = excerpt(network, "conv2", clip, 300)
    middle = network.spec.centre(300, "conv2")
    assert len(sound) == 24_000 and abs(int(sound[12_000]) - middle % 30_000) < 2
    assert len(excerpt(network, "conv2", example(0, 6_000), 30)) == 6_000
