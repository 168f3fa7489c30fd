"""torch.hub: `torch.hub.load("/path/to/this/checkout", "soundnet8", source="local", checkpoint="...")`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

dependencies = ["numpy", "safetensors", "torch"]


def soundnet8(checkpoint: str | os.PathLike[str], device: str = "cpu") -> Any:
    """SoundNet8 (Table 1) out of a checkpoint, in eval mode: of `make train`, or `data/published/soundnet8.pt`.

    `network(256 * waveform)`, waveform float (batch, samples) in [-1, 1] at `network.sample_rate`, gives logits
    {head: (batch, classes, steps)}; `network.features(256 * waveform, ["pool5"])` gives layers, (batch, channels,
    steps) each; `network.classes` has the classes' names {head: (name, ...)}.
    """
    return _network("soundnet8", checkpoint, device)


def soundnet5(checkpoint: str | os.PathLike[str], device: str = "cpu") -> Any:
    """SoundNet5 (Table 2), otherwise as `soundnet8`."""
    return _network("soundnet5", checkpoint, device)


def _network(name: str, path: str | os.PathLike[str], device: str) -> Any:
    from soundnet.modules import own

    network, checkpoint = own("train.checkpoint.checkpoint").load_student(Path(path), device)
    if checkpoint.spec.name != name:
        raise own("shards.errors").UserError(f"{path} holds a {checkpoint.spec.name}, which is not {name}")
    network.classes = {head: card.classes for head, card in checkpoint.teachers.items()}
    return network
