"""A network's features of whole recordings: one pass for all the layers wanted, kept by checkpoint and data hash."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.windows import HOP_SECONDS, Windows, cut_for, join
from train.model.student import Trunk, scaled

BATCH_SECONDS = 80.0  # of sound at a time; twice as much is no faster on a CPU
FORMAT = 1  # of the cached files; another one is computed anew

Features = list[NDArray[np.float32]]  # one (channels, steps) or (windows, dimensions) per recording


@dataclass(frozen=True)
class Extractor:
    """A network at work on recordings. `identity` is a hash of its weights, None where nothing is to be kept.

    `windows` is `features`: the network hears whole recordings and windows are cut out of its features; or `waveform`:
    it hears each excerpt by itself, with its own padding.
    """

    network: Trunk
    identity: str | None
    cache: Path
    windows: str = "features"
    device: str = "cpu"

    def extract(self, sounds: Recordings, layers: Sequence[str]) -> dict[str, Windows]:
        """{layer: windows of all recordings}. Raises UserError for an unknown layer and for too short sounds."""
        spec = sounds.benchmark.spec
        lengths = {"seconds": spec.seconds, "window_seconds": spec.window_seconds}
        if self.windows == "waveform":
            lengths["seconds"] = spec.window_seconds
        cuts = {layer: cut_for(self.network, layer, **lengths) for layer in layers}  # refused before any work
        found = {layer: self._load(sounds, layer) for layer in layers}
        missing = [layer for layer in layers if found[layer] is None]
        if missing:
            hear = self._hear_excerpts if self.windows == "waveform" else self._hear_recordings
            for layer, features in hear(sounds, missing).items():
                self._save(sounds, layer, features)
                found[layer] = features
        if self.windows == "waveform":
            return {layer: join(features or []) for layer, features in found.items()}
        return {layer: join([cuts[layer](each) for each in features or []]) for layer, features in found.items()}

    def _hear_recordings(self, sounds: Recordings, layers: Sequence[str]) -> dict[str, Features]:
        """{layer: (channels, steps) per recording}; recordings of one length go through together."""
        found: dict[str, Features] = {layer: [np.empty((0, 0), np.float32)] * len(sounds.waveforms) for layer in layers}
        for batch in batches(sounds):
            waveforms = np.stack([sounds.repeated(index) for index in batch])  # (batch, samples)
            for layer, values in self._hear(waveforms, layers).items():
                for index, features in zip(batch, values, strict=True):
                    found[layer][index] = features
        return found

    def _hear_excerpts(self, sounds: Recordings, layers: Sequence[str]) -> dict[str, Features]:
        """{layer: (windows, channels * steps) per recording}."""
        found: dict[str, Features] = {layer: [] for layer in layers}
        for index in range(len(sounds.waveforms)):
            for layer, values in self._hear(excerpts(sounds, index), layers).items():
                found[layer].append(values.reshape(len(values), -1))
        return found

    def _hear(self, waveforms: NDArray[np.int16], layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            heard = self.network.features(scaled(torch.from_numpy(waveforms).to(self.device)), layers)
            return {layer: values.float().cpu().numpy() for layer, values in heard.items()}

    def _path(self, sounds: Recordings, layer: str) -> Path:
        spec = sounds.benchmark.spec
        window_seconds = spec.window_seconds if self.windows == "waveform" else None
        facts = f"{FORMAT} {self.identity} {sounds.sha256} {self.windows} {spec.seconds} {window_seconds}"
        return self.cache / hashlib.sha256(facts.encode()).hexdigest()[:24] / f"{layer}.npz"

    def _load(self, sounds: Recordings, layer: str) -> Features | None:
        if self.identity is None:
            return None
        try:
            with np.load(self._path(sounds, layer), allow_pickle=False) as stored:
                values, lengths = stored["values"], stored["lengths"]
        except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
            return None
        return [part.reshape(shape) for part, shape in zip(np.split(values, _ends(lengths)), lengths, strict=True)]

    def _save(self, sounds: Recordings, layer: str, features: Features) -> None:
        if self.identity is None:
            return
        path = self._path(sounds, layer)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # another evaluation may be at the same
        with open(partial, "wb") as stream:
            values = np.concatenate([part.ravel() for part in features])
            np.savez(stream, values=values, lengths=np.array([part.shape for part in features]))
        os.replace(partial, path)


def batches(sounds: Recordings, recordings: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Indices of recordings of one length, some BATCH_SECONDS of sound together. `recordings`: of these only."""
    by_length: dict[int, list[int]] = {}
    for index in range(len(sounds.waveforms)) if recordings is None else recordings:
        by_length.setdefault(max(sounds.samples, len(sounds.waveforms[index])), []).append(index)
    for samples, indices in sorted(by_length.items()):
        size = max(1, round(BATCH_SECONDS * sounds.sample_rate / samples))
        yield from (indices[start : start + size] for start in range(0, len(indices), size))


def excerpts(sounds: Recordings, index: int) -> NDArray[np.int16]:
    """One recording's overlapping excerpts, int16 (windows, samples), 0.37 s apart."""
    samples = round(sounds.benchmark.spec.window_seconds * sounds.sample_rate)
    hop = round(HOP_SECONDS * sounds.sample_rate)
    return sliding_window_view(sounds.repeated(index), samples)[::hop].copy()


def _ends(shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where one recording's values end and the next one's begin, when they lie one after the other."""
    ends: NDArray[np.int64] = np.cumsum(shapes.prod(axis=1))[:-1]
    return ends
