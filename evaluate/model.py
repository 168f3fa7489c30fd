"""The network under evaluation: out of a checkpoint, with what a table has to say about its origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.benchmarks.benchmark import Benchmark
from shards.errors import UserError
from shards.files import sha256_of
from train.checkpoint.checkpoint import Checkpoint, load_network
from train.model.student import Trunk

SUPERVISED = "supervised"  # the key in Checkpoint.config under which evaluate.supervised keeps what a network has seen


@dataclass(frozen=True)
class EvaluatedModel:
    """A network in eval mode on a device, with its checkpoint and the hash of its file."""

    path: Path
    network: Trunk
    checkpoint: Checkpoint
    sha256: str

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> EvaluatedModel:
        """Raises UserError where there is no checkpoint."""
        network, checkpoint = load_network(path, device)
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
    def story(self) -> str:
        """How far it was trained and by whom, in a few words; of foreign weights, where they come from."""
        checkpoint = self.checkpoint
        teachers = ", ".join(f"{head} by {card.architecture}" for head, card in checkpoint.teachers.items())
        if checkpoint.position is None:
            return str(checkpoint.config.get("source", "of unknown origin"))
        told = f"{checkpoint.position['consumed']:,} clips in {checkpoint.position['step']:,} steps"
        return f"{told}, {teachers}" if teachers else told

    def require_unseen(self, benchmark: Benchmark) -> None:
        """Raise UserError where a tested recording's label was used to train this network.

        Recordings are known by their bytes: ESC-10 is a part of ESC-50, and folders are moved and renamed.
        """
        seen = self.checkpoint.config.get(SUPERVISED)
        if seen is None:
            return
        if "recordings" not in seen:
            raise UserError(f"{self.path} does not say which recordings' labels it has learned: train it anew")
        marks = set(seen["recordings"])
        known = [each for each in benchmark.recordings if each.fold in benchmark.tested and each.mark in marks]
        if known:
            unseen = [fold for fold in benchmark.tested if fold not in {recording.fold for recording in known}]
            remedy = f"test on what it has not: folds=[{','.join(unseen)}]" if unseen else "take another checkpoint"
            raise UserError(
                f"{self.path} was trained on the labels of {seen['benchmark']}, and {len(known)} of the recordings to "
                f"test it on are among them (first {known[0].name}): {remedy}"
            )
