"""A network for programs: `load(checkpoint)` gives vectors and names of any sound they hold, of any length and rate."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluate.inference.array import Waveform, checked_sound, resampled
from evaluate.inference.features import mean_of, steps_of
from evaluate.inference.posteriors import posteriors_of
from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.tags import SoundTags, tags_of
from evaluate.model import EvaluatedModel
from shards.errors import UserError

LAYER = "pool5"  # the paper's best (Table 4)
HOP_SECONDS = 0.05  # that timestamps are apart, at most


class SoundModel(nn.Module):
    """A checkpoint's network, in eval mode, for sounds as arrays.

    A waveform is (samples,) or (channels, samples), numpy or torch, int16 or float in [-1, 1], of any rate and length.
    What cannot be right, such as NaN or channels last, raises UserError. `network` takes scaled tensors itself.
    """

    def __init__(self, model: EvaluatedModel) -> None:
        super().__init__()
        self.model, self.network = model, model.network
        self.sample_rate = self.network.sample_rate  # Hz, of the network; waveforms are resampled to it
        self.classes = model.checkpoint.classes  # {head: the names of its classes}
        self.base = Baseline.known(model.checkpoint)  # what a tag's lift is over; None: the sound itself
        spec, hidden = self.network.spec, list(self.network.blocks)
        fine = [layer for layer in hidden if spec.stride(layer) <= HOP_SECONDS * self.sample_rate]
        self.layer = LAYER if LAYER in hidden else hidden[-1]  # of `embed`
        self.timestamp_layer = (fine or hidden)[-1]
        self.embedding_size, self.timestamp_size = (
            next(each.filters for each in reversed(spec.through(layer)) if each.filters is not None)
            for layer in (self.layer, self.timestamp_layer)  # a pool has the channels of the layer before it
        )
        self.eval()

    def embed(self, waveform: Waveform, sample_rate: float, layer: str | None = None) -> NDArray[np.float32]:
        """A vector (channels,): the mean over time of `layer`, by default pool5, or the deepest hidden layer."""
        pieces = resampled(waveform, sample_rate, self.sample_rate)
        ((_, vectors),) = mean_of(steps_of(self.model, self._known(layer or self.layer), pieces))
        return vectors.squeeze(0)

    def timestamps(
        self, waveform: Waveform, sample_rate: float, layer: str | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Vectors (steps, channels) and the times of their centres in seconds (steps,).

        Of `layer`, by default the deepest whose steps are no more than 50 ms apart. Steps that are centred before the
        sound or behind it, where there is padding, are left out.
        """
        pieces = resampled(waveform, sample_rate, self.sample_rate)
        times, vectors = zip(*steps_of(self.model, self._known(layer or self.timestamp_layer), pieces), strict=True)
        seconds = checked_sound(waveform).shape[1] / sample_rate
        rows, inside = steps_inside(np.concatenate(times), seconds)
        return np.concatenate(vectors)[rows], inside

    def tag(self, waveform: Waveform, sample_rate: float, top: int = 5) -> SoundTags:
        """The names of what stands out, at most `top` of each head: in the whole sound, and in each of its parts."""
        if not self.classes:
            raise UserError(
                f"{self.model.path} holds an {self.model.checkpoint.spec.kind}, which has no classes to name: give a "
                "student's checkpoint"
            )
        sound = posteriors_of(self.model, resampled(waveform, sample_rate, self.sample_rate))
        return tags_of(sound, self.base or Baseline.of([sound], "the sound itself"), self.classes, top=top)

    def _known(self, layer: str) -> str:
        self.network.min_samples(layer)  # refuses a layer that is not there
        return layer


def load(checkpoint: str | os.PathLike[str], device: str = "cpu") -> SoundModel:
    """A checkpoint of `make train`, `make finetune` or `make published`, or on Hugging Face: `load("OWNER/NAME")`.

    Raises UserError where there is none.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has one for each kind of device
        raise UserError(f"device={device} cannot be used here: {str(error).splitlines()[0]}") from None
    return SoundModel(EvaluatedModel.load(Path(checkpoint), device))


def steps_inside(times: NDArray[np.float64], seconds: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which steps are centred in a sound, and where; of a sound shorter than a step the first one, at its middle."""
    (rows,) = np.nonzero((times >= 0) & (times <= seconds))
    return (rows, times[rows]) if len(rows) else (np.zeros(1, np.intp), np.array([seconds / 2]))
