"""The baseline of an untrained network: random weights, batch-norm statistics of the training recordings.

Read a trained student against this and not against chance: random convolutions are no bad features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluate.benchmarks.benchmark import Split
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.crossvalidation import Source
from evaluate.probe.features.network import BATCH_SECONDS, batches, extract
from evaluate.probe.features.windows import Windows
from train.checkpoint.checkpoint import build
from train.model.layers import StudentSpec
from train.model.student import Trunk, scaled

# Minutes of sound fix means and variances well enough: the deepest layer still has hundreds of values a channel.
STATISTICS_RECORDINGS = 100


@dataclass(frozen=True)
class RandomInit:
    """What decides a network before it learns. `heads` (head -> classes) only matter to its output layer."""

    spec: StudentSpec
    heads: dict[str, int]
    seed: int


def untrained_source(
    init: RandomInit, recordings: Recordings, layers: Sequence[str], *, windows: str = "features", device: str = "cpu"
) -> Source:
    """Features of a network of random weights, normalised anew for every split."""

    def of(split: Split) -> dict[str, Windows]:
        network = normalised(init, recordings, split.train, device)
        return extract(network, recordings, layers, windows=windows)

    return Source("random network", of, init.seed, {"cut": windows})


def normalised(init: RandomInit, recordings: Recordings, train: NDArray[np.int64], device: str = "cpu") -> Trunk:
    """A network of random weights in eval mode, its statistics the mean over batches of training recordings."""
    step = max(1, len(train) // STATISTICS_RECORDINGS)
    size = round(BATCH_SECONDS * recordings.sample_rate)
    together = (
        part
        for batch in batches(recordings, train[::step].tolist())
        for part in stretches(np.stack([recordings.repeated(index) for index in batch]), size)
    )
    return estimated(init, together, recordings.sample_rate, device)


def stretches(waveforms: NDArray[np.int16], samples: int) -> list[NDArray[np.int16]]:
    """(batch, at most `samples`) one behind the other; a shorter rest of a long sound is left out."""
    return [waveforms[:, at : at + samples] for at in range(0, max(1, waveforms.shape[1] - samples + 1), samples)]


def estimated(init: RandomInit, waveforms: Iterable[NDArray[np.int16]], sample_rate: int, device: str = "cpu") -> Trunk:
    """A network of random weights in eval mode, its statistics the mean over batches int16 (batch, samples)."""
    network = build(init.spec, init.heads, sample_rate=sample_rate, seed=init.seed).to(device).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None  # the plain mean over batches
    with torch.no_grad():
        for batch in waveforms:
            network.features(scaled(torch.from_numpy(batch).to(device)), list(network.blocks)[-1:])
    return network.eval()
