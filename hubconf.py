"""torch.hub: `torch.hub.load("/path/to/this/checkout", "soundnet8", source="local", checkpoint="...")`."""

from __future__ import annotations

import os
from typing import Any

dependencies = ["av", "numpy", "safetensors", "torch"]


def soundnet8(checkpoint: str | os.PathLike[str], device: str = "cpu") -> Any:
    """SoundNet8 (Table 1) out of a checkpoint, of `make train`, or `data/published/soundnet8.pt`.

    `model.embed(waveform, sample_rate)`, `.timestamps(...)` and `.tag(...)` take any sound
    (evaluate/inference/sound_model.py). `model.network(256 * waveform)`, waveform float (batch, samples) in [-1, 1] at
    `model.sample_rate`, gives logits {head: (batch, classes, steps)}, for those who train it further.
    """
    return _loaded("soundnet8", checkpoint, device)


def soundnet5(checkpoint: str | os.PathLike[str], device: str = "cpu") -> Any:
    """SoundNet5 (Table 2), otherwise as `soundnet8`."""
    return _loaded("soundnet5", checkpoint, device)


def _loaded(name: str, path: str | os.PathLike[str], device: str) -> Any:
    from soundnet.modules import own

    model = own("evaluate.inference.sound_model").load(path, device)
    if model.network.spec.name != name:
        raise own("shards.errors").UserError(f"{path} holds a {model.network.spec.name}, which is not {name}")
    return model
