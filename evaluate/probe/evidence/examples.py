"""The clips of a folder of shards as examples: what networks hear of them, and what the teachers saw meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.model import run_layers
from pipeline.videos.plan import sources
from shards.errors import UserError
from shards.format.example import video_of
from shards.loader.batch import allocate
from shards.loader.catalog import Catalog
from shards.loader.streaming import Streaming, sequential_reader
from shards.storage import is_remote
from train.device.threads import side_by_side
from train.model.student import Trunk

ROWS = 4  # clips in one pass, 80 s of sound

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClipBatch:
    """Some clips: waveforms int16 (clips, samples), and {head: mean posterior over windows (clips, classes)}."""

    keys: list[str]
    waveforms: NDArray[np.int16]
    posteriors: dict[str, Array]


@dataclass(frozen=True)
class Examples:
    """Clips in order: `features` (clips, dimensions) of each network, `posteriors` {head: (clips, classes)}."""

    keys: list[str]
    features: list[Array]
    posteriors: dict[str, Array]


def read_clips(catalog: Catalog, streaming: Streaming) -> Iterator[ClipBatch]:
    """Every clip once, in order; a short one is repeated to the others' length, as in training.

    Raises DamagedShard; with streaming.on_bad_shard=skip what is damaged is named on stderr and left out.
    """
    ring = [allocate(ROWS, catalog.clip, catalog.classes) for _ in range(streaming.prefetch)]
    with sequential_reader(catalog, ring, streaming) as reader:
        for batch in reader:
            for skip in batch.skipped:
                print(f"left out: {skip.reason}", file=sys.stderr, flush=True)
            damaged = {skip.row for skip in batch.skipped}
            rows = [row for row in range(batch.count) if row not in damaged]
            if rows:
                samples = catalog.clip.samples
                waveforms = [np.resize(batch.waveform[row, : batch.lengths[row]], samples) for row in rows]
                posteriors = {
                    head: np.stack([values[row, : batch.windows[row]].mean(axis=0, dtype=np.float64) for row in rows])
                    for head, values in batch.posteriors.items()
                }
                keys = [str(catalog.keys[batch.clips[row]]) for row in rows]
                yield ClipBatch(keys, np.stack(waveforms), posteriors)
            reader.release(batch)


def examples_of(networks: Sequence[Trunk], layer: str, catalog: Catalog, streaming: Streaming) -> Examples:
    """Features of all clips in one reading. Raises UserError where none can be read."""

    def heard(batch: ClipBatch) -> tuple[ClipBatch, list[Array]]:
        return batch, [pooled(network, layer, batch.waveforms) for network in networks]

    keys: list[str] = []
    features: list[list[Array]] = [[] for _ in networks]
    posteriors: dict[str, list[Array]] = {head: [] for head in catalog.classes}
    for batch, parts in side_by_side(heard, read_clips(catalog, streaming)):
        keys += batch.keys
        for found, part in zip(features, parts, strict=True):
            found.append(part)
        for head, part in batch.posteriors.items():
            posteriors[head].append(part)
    if not keys:
        raise UserError(f"no clip of {catalog.location} could be read: see `make check-shards`")
    values = [np.concatenate(each) for each in features]
    labels = {head: np.concatenate(each) for head, each in posteriors.items()}
    for what, array in [*((layer, each) for each in values), *labels.items()]:
        if not (finite := np.isfinite(array).all(axis=1)).all():
            raise UserError(
                f"{what} of {keys[int(finite.argmin())]} holds NaN or infinite values, from which nothing can be "
                "learned: make its shard again"
            )
    return Examples(keys, values, labels)


def pooled(network: Trunk, layer: str, waveforms: NDArray[np.int16]) -> Array:
    """A layer's mean and deviation over time, (clips, 2 * channels), of waveforms (clips, samples).

    A clip too short for the layer is repeated in a circle until it is not.
    """
    samples = max(waveforms.shape[1], network.min_samples(layer))
    repeated = np.take(waveforms, np.arange(samples), axis=1, mode="wrap")
    values = run_layers(network, repeated, [layer])[layer].astype(np.float64)  # (clips, channels, steps)
    return np.concatenate([values.mean(axis=2), values.std(axis=2)], axis=1)


def some(catalog: Catalog, most: int) -> Catalog:
    """At most so many clips: whole videos, one at least, drawn once for ever from all shards alike."""
    videos = np.array([video_of(str(key)) for key in catalog.keys])
    names, number, counts = np.unique(videos, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    fitting = order[: max(1, int((counts[order].cumsum() <= most).sum()))]
    return catalog.part(np.flatnonzero(np.isin(number, fitting)))


def sources_of(keys: Sequence[str], location: str) -> list[str]:
    """What must stay together with each clip: the group that the list of videos gave, else the video's file.

    Groups stand in the shards' plan.jsonl; where that is not at hand, the file is what a key says.
    """
    planned = {} if is_remote(location) else sources(Path(location))
    videos = [video_of(key) for key in keys]
    return [planned.get(video, video.partition("+")[0]) for video in videos]  # a segment stands behind the +
