"""The common API of HEAR 2021 (https://hearbenchmark.com/hear-api.html): `hear_soundnet` at the root offers it.

Scene embeddings are the mean over time of pool5, the paper's best layer (Table 4), or of the deepest hidden layer where
there is no pool5. Timestamp embeddings are the deepest layer whose steps are no more than the suggested 50 ms apart:
conv4 of SoundNet8 (46.4 ms), conv3 of SoundNet5 (23.2 ms).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from evaluate.inference.features import features_of
from evaluate.model import EvaluatedModel, device_of
from train.model.student import SCALE, Trunk

CHECKPOINT = "data/published/soundnet8.pt"  # of `make published`
SCENE_LAYER = "pool5"
HOP_SECONDS = 0.05


class HearModel(nn.Module):
    """A network with what the API asks of it: `sample_rate` and the two sizes."""

    def __init__(self, network: Trunk) -> None:
        super().__init__()
        self.network = network
        spec = network.spec
        hidden = list(network.blocks)
        fine = [layer for layer in hidden if spec.stride(layer) <= HOP_SECONDS * network.sample_rate]
        self.scene_layer = SCENE_LAYER if SCENE_LAYER in hidden else hidden[-1]
        self.timestamp_layer = (fine or hidden)[-1]
        self.sample_rate = network.sample_rate
        self.scene_embedding_size, self.timestamp_embedding_size = (
            next(each.filters for each in reversed(spec.through(layer)) if each.filters is not None)
            for layer in (self.scene_layer, self.timestamp_layer)  # a pool has the channels of the layer before it
        )
        self.eval()

    def features(self, audio: Tensor, layer: str) -> Tensor:
        """(n_sounds, channels, steps) of audio (n_sounds, n_samples) in [-1, 1], on the model's device."""
        pieces = torch.split(audio.to(device_of(self.network)).float() * SCALE, self.sample_rate, dim=1)
        return torch.cat(list(features_of(self.network, layer, pieces)), dim=2)


def load_model(model_file_path: str = CHECKPOINT) -> HearModel:
    """Raises UserError where there is no checkpoint."""
    return HearModel(EvaluatedModel.load(Path(model_file_path)).network)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """float32 (n_sounds, scene_embedding_size) of audio (n_sounds, n_samples) in [-1, 1] at the model's rate."""
    return model.features(audio, model.scene_layer).mean(dim=2)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeddings float32 (n_sounds, n_timestamps, size) and their centres in milliseconds (n_sounds, n_timestamps).

    Steps centred before the sound's beginning or behind its end, where there is padding, are left out.
    """
    layer, spec = model.timestamp_layer, model.network.spec
    features = model.features(audio, layer).transpose(1, 2)  # (n_sounds, steps, channels)
    steps = torch.arange(features.shape[1], dtype=torch.float64, device=features.device)
    centres = spec.centre(0, layer) + steps * spec.stride(layer)  # samples; whole multiples, so that nothing drifts
    inside = (centres >= 0) & (centres <= audio.shape[1])
    if not inside.any():
        inside[0], centres[0] = True, audio.shape[1] / 2  # a sound shorter than a step is its only one
    timestamps = (centres[inside] * 1000 / model.sample_rate).float()
    return features[:, inside], timestamps.expand(len(audio), -1).clone()
