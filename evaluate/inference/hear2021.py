"""The common API of HEAR 2021 (https://hearbenchmark.com/hear-api.html): `hear_soundnet` at the root offers it.

Scene and timestamp embeddings are what `SoundModel.embed` and `.timestamps` take: the mean over time of pool5, and the
steps of conv4 of SoundNet8 (46.4 ms apart) or conv3 of SoundNet5 (23.2 ms).
"""

from __future__ import annotations

import torch
from torch import Tensor

from evaluate.inference.features import centres, features_of
from evaluate.inference.sound_model import SoundModel, load, steps_inside
from evaluate.model import device_of
from train.model.student import SCALE

CHECKPOINT = "data/published/soundnet8.pt"  # of `make published`


class HearModel(SoundModel):
    """The two sizes under the names that the API asks for, beside `sample_rate`."""

    @property
    def scene_embedding_size(self) -> int:
        return self.embedding_size

    @property
    def timestamp_embedding_size(self) -> int:
        return self.timestamp_size


def load_model(model_file_path: str = CHECKPOINT) -> HearModel:
    """Raises UserError where there is no checkpoint."""
    return HearModel(load(model_file_path).model)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """float32 (n_sounds, scene_embedding_size) of audio (n_sounds, n_samples) in [-1, 1] at the model's rate."""
    return _features(audio, model, model.layer).mean(dim=2)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeddings float32 (n_sounds, n_timestamps, size) and their centres in milliseconds (n_sounds, n_timestamps)."""
    layer = model.timestamp_layer
    features = _features(audio, model, layer).transpose(1, 2)  # (n_sounds, steps, channels)
    times = centres(model.network, layer, features.shape[1])
    rows, inside = steps_inside(times, audio.shape[1] / model.sample_rate)
    timestamps = torch.from_numpy(1000 * inside).float().to(features.device)
    return features[:, torch.from_numpy(rows).to(features.device)], timestamps.expand(len(audio), -1).clone()


def _features(audio: Tensor, model: HearModel, layer: str) -> Tensor:
    """(n_sounds, channels, steps) on the model's device; not rounded to int16, as a batch of floats need not be."""
    pieces = torch.split(audio.to(device_of(model.network)).float() * SCALE, model.sample_rate, dim=1)
    return torch.cat(list(features_of(model.network, layer, pieces)), dim=2)
