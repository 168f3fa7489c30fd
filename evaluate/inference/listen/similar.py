"""The sounds of a folder that are most like another, by the cosine between the means of one layer over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.embed.run import embed_missing
from evaluate.inference.embed.store import FeatureStore
from evaluate.inference.features import mean_of, steps_of
from evaluate.inference.inputs import find_sounds
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from shards.media.waveform import RESAMPLER


@dataclass(frozen=True)
class SimilarSounds:
    """Sounds and their vectors, float32 (sounds, channels), each of length 1 (of one that gives nothing, 0)."""

    model: EvaluatedModel
    layer: str
    paths: list[Path]
    vectors: NDArray[np.float32]

    @classmethod
    def embedded(cls, model: EvaluatedModel, layer: str, given: Sequence[Path], out: Path) -> SimilarSounds:
        """All that can be read of files, folders or lists; what `out` has of this checkpoint is not computed again."""
        paths = find_sounds(given)
        facts = {"checkpoint": model.sha256, "layer": layer, "over_time": False, "resampler": RESAMPLER}
        store = FeatureStore(out / f"{model.sha256[:12]}-{layer}", facts)
        with store.locked():
            unreadable = embed_missing(store, model, paths)
            readable = [path for path in paths if path not in unreadable]
            if not readable:
                raise UserError(f"no sound of similar={', '.join(map(str, given))} could be read, as said above")
            vectors = np.concatenate([store.features(path) for path in readable])
        return cls(model, layer, readable, _unit(vectors))

    def nearest(self, pieces: Iterable[NDArray[np.int16]], count: int) -> list[tuple[int, float]]:
        """(index into `paths`, cosine), nearest first, of a sound in pieces of int16 (samples,) at the model's rate."""
        ((_, vector),) = mean_of(steps_of(self.model, self.layer, pieces))
        cosines = self.vectors @ _unit(vector)[0]
        return [(int(index), float(cosines[index])) for index in np.argsort(-cosines, kind="stable")[:count]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
