"""One file's features of one layer, as rows with their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import require_whole
from evaluate.inference.features import features_of
from evaluate.inference.posteriors import hear
from shards.format.clip import ClipSpec
from shards.media.waveform import stream_waveform
from train.model.student import Student, Trunk, scaled

Rows = tuple[NDArray[np.float64], NDArray[np.float32]]  # seconds (rows,), features (rows, channels)


@dataclass(frozen=True)
class Embedder:
    """A network at work on files. The output layer gives log posteriors, clip by clip, as `tag` hears them."""

    network: Trunk
    clip: ClipSpec
    layer: str
    over_time: bool
    device: str

    def embed(self, path: Path) -> Iterator[Rows]:
        """The layer's steps with the times of their centres, or one row: the mean. Raises UnreadableMedia."""
        return self._steps(path) if self.over_time else self._mean(path)

    def _steps(self, path: Path) -> Iterator[Rows]:
        require_whole(path)
        pieces = stream_waveform(path, self.clip.sample_rate)
        if isinstance(self.network, Student) and self.layer == self.network.spec.output.name:
            heard = hear(self.network, self.clip, pieces, self.device)
            yield (heard.begins + heard.ends) / 2, np.log(np.hstack(list(heard.posteriors.values())))
            return
        scales = (scaled(torch.from_numpy(piece)[None].to(self.device)) for piece in pieces)
        spec, done = self.network.spec, 0
        for part in features_of(self.network, self.layer, scales):
            rows = part[0].T.float().cpu().numpy()  # (steps, channels)
            centres = spec.centre(done, self.layer) + np.arange(len(rows)) * spec.stride(self.layer)
            yield centres / self.clip.sample_rate, rows
            done += len(rows)

    def _mean(self, path: Path) -> Iterator[Rows]:
        total, count, middle = np.zeros(1), 0, 0.0
        for times, rows in self._steps(path):
            total = total + rows.sum(axis=0, dtype=np.float64)
            middle += float(times.sum())
            count += len(rows)
        yield np.array([middle / count]), (total / count).astype(np.float32)[None]
