"""A checkpoint at work: its network in eval mode, what a table says about its origin, and one pass over waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark
from shards.errors import ContractError, UserError
from shards.files import sha256_of
from train.checkpoint.checkpoint import Checkpoint, load_network, load_student
from train.checkpoint.hub import checkpoint_file
from train.model.student import Trunk, scaled

SUPERVISED = "supervised"  # the key in Checkpoint.config under which evaluate.supervised keeps what a network has seen


def run_layers(network: Trunk, waveforms: NDArray[np.int16], layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """{layer: float32 (rows, channels, steps)} of int16 (rows, samples), in one pass on the network's device.

    Raises UserError for an unknown layer and for a sound too short for one of them.
    """
    with torch.inference_mode():
        outputs = network.features(scaled(torch.from_numpy(waveforms).to(device_of(network))), layers)
        return {layer: values.float().cpu().numpy() for layer, values in outputs.items()}


def device_of(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


@dataclass(frozen=True)
class EvaluatedModel:
    """A network in eval mode on a device, with its checkpoint and the hash of its file."""

    path: Path
    network: Trunk
    checkpoint: Checkpoint
    sha256: str

    @classmethod
    def load(cls, path: Path, device: str = "cpu", *, heads: bool = False) -> EvaluatedModel:
        """A file, a folder of format=hub, or OWNER/NAME or OWNER/NAME@REVISION on Hugging Face.

        Raises UserError where there is no checkpoint, and with `heads` where its network is no student.
        """
        path = checkpoint_file(path)
        network, checkpoint = (load_student if heads else load_network)(path, device)
        return cls(path, network, checkpoint, sha256_of(path))

    @property
    def record(self) -> dict[str, Any]:
        """What scores.json keeps of it: file, hash, student, teachers, how far it was trained, settings."""
        checkpoint = self.checkpoint
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "student": checkpoint.spec.name,
            "teachers": {head: card.architecture for head, card in checkpoint.teachers.items()},
            "position": checkpoint.position,
            "config": checkpoint.config,
        }

    @property
    def provenance(self) -> str:
        """How far it was trained and by which teachers, in a few words; of foreign weights, where they come from."""
        checkpoint = self.checkpoint
        teachers = ", ".join(f"{head} by {card.architecture}" for head, card in checkpoint.teachers.items())
        if checkpoint.position is None:
            return str(checkpoint.config.get("source", "of unknown origin"))
        trained = f"{checkpoint.position['consumed']:,} clips in {checkpoint.position['step']:,} steps"
        return f"{trained}, {teachers}" if teachers else trained

    def __str__(self) -> str:
        return f"{self.path.name} ({self.provenance})"

    def require_unseen(self, benchmark: Benchmark) -> None:
        """Raise UserError where a tested recording's label was used to train this network.

        Recordings are known by their bytes: ESC-10 is a part of ESC-50, and folders are moved and renamed.
        """
        seen = self.checkpoint.config.get(SUPERVISED)
        if seen is None:
            return
        if "recordings" not in seen:
            raise UserError(f"{self.path} does not say which recordings' labels it has learned: train it again")
        digests = set(seen["recordings"])
        known = [each for each in benchmark.recordings if each.fold in benchmark.tested and each.digest in digests]
        if known:
            unseen = [fold for fold in benchmark.tested if fold not in {recording.fold for recording in known}]
            remedy = f"test on what it has not: folds=[{','.join(unseen)}]" if unseen else "take another checkpoint"
            raise ContractError(
                f"{self.path} was trained on the labels of {seen['benchmark']}, and {len(known)} of the recordings to "
                f"test it on are among them (first {known[0].name}): {remedy}"
            )
