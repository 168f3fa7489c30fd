"""A network's features of a benchmark's recordings: one pass for all the layers wanted, cached by hash."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import Recordings
from evaluate.inference.features import whole_features
from evaluate.model import run_layers
from evaluate.probe.features.windows import HOP_SECONDS, Windows, cut_for, join
from shards.files import replacing
from train.device.threads import side_by_side
from train.model.student import Trunk

BATCH_SECONDS = 80.0  # of sound at a time; twice as much is no faster on a CPU
FORMAT = 1  # of the cached files; another one is computed anew

Features = list[NDArray[np.float32]]  # one (channels, steps) or (windows, dimensions) per recording


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features, by the hash of a checkpoint's file and of everything else that decides them."""

    folder: Path
    checkpoint_sha256: str

    def load(self, recordings: Recordings, layer: str, windows: str) -> Features | None:
        """What is there; a damaged file is as good as none."""
        try:
            with np.load(self._path(recordings, layer, windows), allow_pickle=False) as stored:
                values, lengths = stored["values"], stored["lengths"]
        except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
            return None
        ends = np.cumsum(lengths.prod(axis=1))[:-1]  # where one recording's values end and the next one's begin
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends), lengths, strict=True)]

    def save(self, recordings: Recordings, layer: str, windows: str, features: Features) -> None:
        path = self._path(recordings, layer, windows)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.concatenate([part.ravel() for part in features])
        # Another evaluation may be at the same.
        with replacing(path, unique=True) as partial, open(partial, "wb") as stream:
            np.savez(stream, values=values, lengths=np.array([part.shape for part in features]))

    def _path(self, recordings: Recordings, layer: str, windows: str) -> Path:
        spec = recordings.benchmark.spec
        window_seconds = spec.window_seconds if windows == "waveform" else None
        facts = f"{FORMAT} {self.checkpoint_sha256} {recordings.sha256} {windows} {spec.seconds} {window_seconds}"
        return self.folder / hashlib.sha256(facts.encode()).hexdigest()[:24] / f"{layer}.npz"


def extract(
    network: Trunk,
    recordings: Recordings,
    layers: Sequence[str],
    *,
    windows: str = "features",
    cache: FeatureCache | None = None,
) -> dict[str, Windows]:
    """{layer: windows of all recordings}. Raises UserError for an unknown layer and for too short sounds.

    `windows` is `features`: the network runs on whole recordings and windows are cut out of its features; or
    `waveform`: it runs on each excerpt by itself, with its own padding.
    """
    spec, by_excerpt = recordings.benchmark.spec, windows == "waveform"
    seconds = spec.window_seconds if by_excerpt else spec.seconds
    cuts = {  # refused before any work
        layer: cut_for(network, layer, seconds=seconds, window_seconds=spec.window_seconds) for layer in layers
    }
    found = {layer: cache and cache.load(recordings, layer, windows) for layer in layers}
    if missing := [layer for layer in layers if found[layer] is None]:
        compute = features_of_excerpts if by_excerpt else features_of_recordings
        for layer, features in compute(network, recordings, missing).items():
            if cache is not None:
                cache.save(recordings, layer, windows, features)
            found[layer] = features
    if by_excerpt:
        return {layer: join(features or []) for layer, features in found.items()}
    return {layer: join([cuts[layer](each) for each in features or []]) for layer, features in found.items()}


def features_of_recordings(network: Trunk, recordings: Recordings, layers: Sequence[str]) -> dict[str, Features]:
    """{layer: (channels, steps) per recording}: those of one length go through together, long ones in stretches."""
    found: dict[str, Features] = {layer: [np.empty((0, 0), np.float32)] * len(recordings.waveforms) for layer in layers}
    long = recordings.longer_than(BATCH_SECONDS)

    def run(batch: list[int]) -> dict[str, NDArray[np.float32]]:
        waveforms = np.stack([recordings.repeated(index) for index in batch])  # (batch, samples)
        return run_layers(network, waveforms, layers)

    together = list(batches(recordings, sorted(set(range(len(recordings.waveforms))) - set(long))))
    for batch, by_layer in zip(together, side_by_side(run, together), strict=True):
        for layer, values in by_layer.items():
            for index, features in zip(batch, values, strict=True):
                found[layer][index] = features
    for index in long:
        for layer, features in whole_features(network, layers, recordings.repeated(index)).items():
            found[layer][index] = features
    return found


def features_of_excerpts(network: Trunk, recordings: Recordings, layers: Sequence[str]) -> dict[str, Features]:
    """{layer: (windows, channels * steps) per recording}."""
    found: dict[str, list[Features]] = {layer: [[] for _ in recordings.waveforms] for layer in layers}
    size = max(1, round(BATCH_SECONDS / recordings.benchmark.spec.window_seconds))
    parts = ((index, part) for index in range(len(recordings.waveforms)) for part in excerpts(recordings, index, size))

    def run(part: tuple[int, NDArray[np.int16]]) -> tuple[int, dict[str, NDArray[np.float32]]]:
        return part[0], run_layers(network, part[1], layers)

    for index, by_layer in side_by_side(run, parts):
        for layer, values in by_layer.items():
            found[layer][index].append(values.reshape(len(values), -1))
    return {layer: [np.concatenate(each) for each in features] for layer, features in found.items()}


def batches(recordings: Recordings, indices: Iterable[int] | None = None) -> Iterator[list[int]]:
    """Indices of recordings of one length, some BATCH_SECONDS of sound together. `indices`: of these only."""
    by_length: dict[int, list[int]] = {}
    for index in range(len(recordings.waveforms)) if indices is None else indices:
        by_length.setdefault(max(recordings.samples, len(recordings.waveforms[index])), []).append(index)
    for samples, equally_long in sorted(by_length.items()):
        size = max(1, round(BATCH_SECONDS * recordings.sample_rate / samples))
        yield from (equally_long[start : start + size] for start in range(0, len(equally_long), size))


def excerpts(recordings: Recordings, index: int, size: int) -> Iterator[NDArray[np.int16]]:
    """One recording's overlapping excerpts, 0.37 s apart: int16 (windows, samples), at most `size` at a time."""
    samples = round(recordings.benchmark.spec.window_seconds * recordings.sample_rate)
    hop = round(HOP_SECONDS * recordings.sample_rate)
    views = sliding_window_view(recordings.repeated(index), samples)[::hop]
    yield from (views[first : first + size].copy() for first in range(0, len(views), size))
