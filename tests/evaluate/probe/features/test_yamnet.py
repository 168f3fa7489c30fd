"""YAMNet's front end against scipy's transform and its own definition, and its own classes on real recordings."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import stft

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.features.yamnet import YamNet, mel_filters, model_file, patches
from shards.cli.command import compose
from shards.errors import UserError


@pytest.fixture(scope="module")
def network() -> YamNet:
    try:
        model_file()
    except UserError as error:
        pytest.skip(str(error))
    return YamNet.load()


@pytest.mark.parametrize("seconds", [1.0, 60.0])  # the second is computed in two parts
def test_patches_against_scipy(seconds: float) -> None:
    waveform = np.random.default_rng(0).integers(-8000, 8000, round(seconds * 16_000)).astype(np.int16)
    window = np.sin(np.pi * np.arange(400) / 400) ** 2
    _, _, spectrum = stft(waveform / 32768, 16_000, window, 400, 240, 512, boundary=None, padded=False)
    expected = np.log(np.abs(spectrum.T * window.sum()) @ mel_filters() + 0.001)
    found = patches(waveform)
    assert len(found) == (len(expected) - 96) // 48 + 1
    for number, patch in enumerate(found):
        np.testing.assert_allclose(patch, expected[48 * number : 48 * number + 96], atol=1e-4)


def test_filters_are_triangles_in_mel() -> None:
    """Neighbours add up to 1 between the first centre and the last: sides that are straight on the same scale."""
    hertz = np.arange(257) * 16_000 / 512
    sums = mel_filters().sum(axis=1)
    np.testing.assert_allclose(sums[(hertz > 180) & (hertz < 7100)], 1)
    assert (sums[(hertz < 125) | (hertz > 7500)] == 0).all()


def test_a_short_sound_is_followed_by_silence() -> None:
    (patch,) = patches(np.full(1600, 1000, np.int16))
    assert (patch[20:] == np.float32(np.log(0.001))).all() and patch[0].max() > -5


def test_its_own_classes_name_real_recordings(network: YamNet, shared: Path) -> None:
    benchmark = load_benchmark(compose(BenchmarkSpec, "benchmark/esc10"), shared / "data" / "esc10")
    recordings = Recordings(benchmark, 16_000)
    with open(model_file().with_name("yamnet_class_map.csv")) as stream:
        names = [row["display_name"] for row in csv.DictReader(stream)]
    for category, named in {
        "crying_baby": {"Crying, sobbing", "Baby cry, infant cry"},
        "clock_tick": {"Clock", "Tick", "Tick-tock"},
        "crackling_fire": {"Fire", "Crackle"},
    }.items():
        indices = [i for i, each in enumerate(benchmark.recordings) if benchmark.classes[each.label] == category][:8]
        found = Counter[str]()
        for index in indices:
            scores = network(recordings.waveforms[index])[1].astype(int)
            found.update({names[best] for best in np.argsort(-scores.max(axis=0))[:3]} & named)
        assert sum(found.values()) >= len(indices) / 2, (category, found)
