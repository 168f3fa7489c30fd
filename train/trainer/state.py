"""The network under training with its optimizer, and how far it is: created, resumed, saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from shards.errors import UserError, require_same
from shards.loader.catalog import Catalog
from train.checkpoint.checkpoint import MALFORMED, Checkpoint, build, load
from train.checkpoint.hub import checkpoint_file
from train.checkpoint.saver import copied
from train.device.distributed import Ranks
from train.model.autoencoder import Autoencoder
from train.model.student import Student
from train.runfolder import RunFolder
from train.settings import TrainSettings, plain


@dataclass
class TrainState:
    """What changes as a run goes on."""

    network: Student | Autoencoder
    optimizer: torch.optim.Optimizer
    step: int = 0
    consumed: int = 0  # clips of the training stream, all ranks together
    best: float = math.inf  # the lowest validation loss so far, on the clips that are measured each time
    is_measured: bool = False  # by an earlier run: held-out clips after this step, and the best network is kept
    held_out: dict[str, Any] | None = None  # the latest validation, as a checkpoint keeps it

    @classmethod
    def create(cls, settings: TrainSettings, catalog: Catalog, device: torch.device) -> Self:
        """A new network as the paper initialises it, under Adam (section 3.4)."""
        heads = catalog.classes if settings.student.kind == "student" else {}
        network = build(settings.student, heads, sample_rate=catalog.clip.sample_rate, seed=settings.seed).to(device)
        betas = (settings.beta1, 0.999)
        return cls(network, torch.optim.Adam(network.parameters(), lr=settings.lr, betas=betas, fused=True))

    def resume(self, folder: RunFolder, ranks: Ranks, settings: TrainSettings) -> None:
        """Become what a run's last checkpoint holds; rank 0 alone reads it. Raises UserError where it is another run's.

        The best that it knows of counts where its file is there and was measured on the same clips.
        """
        path = folder.last
        begun = (load(path), folder.best.exists()) if ranks.is_first and path.exists() else None
        if (begun := ranks.share(begun)) is None:
            return
        checkpoint, has_best = begun
        if checkpoint.optimizer is None or checkpoint.position is None:
            raise UserError(f"{path} is not a checkpoint to go on from: delete it, or say run=another/folder")
        try:
            self.network.load_state_dict(checkpoint.network)
            self.optimizer.load_state_dict(checkpoint.optimizer)
            self.step, self.consumed = checkpoint.position["step"], checkpoint.position["consumed"]
            same_clips = checkpoint.config["validate_clips"] == settings.validate_clips
            self.is_measured = has_best and (checkpoint.held_out or {}).get("step") == self.step
        except MALFORMED as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{path} is of another run than {folder.record.name} beside it: {reason}. Put the right one back, or "
                "say run=another/folder"
            ) from None
        if checkpoint.best is not None and has_best and same_clips:
            self.best = checkpoint.best
        self.held_out = checkpoint.held_out

    def begin_from(self, path: Path, catalog: Catalog, ranks: Ranks) -> list[str]:
        """Take the layers of a checkpoint, and the heads that fit; returns the names of those. Rank 0 alone reads it.

        A head fits where name and classes are the same. Raises ContractError where layers or sample rate are others.
        """
        checkpoint = ranks.share(load(checkpoint_file(path)) if ranks.is_first else None)
        assert checkpoint is not None
        mine, its = self.network.state_dict(), checkpoint.network
        fitting = [
            head
            for head, card in catalog.cards.items()
            if head in checkpoint.teachers and checkpoint.teachers[head].classes == card.classes
        ]
        wanted = {name for name in mine if not name.startswith("heads.") or name.split(".")[1] in fitting}
        require_same(
            {"sample_rate": catalog.clip.sample_rate} | {name: list(mine[name].shape) for name in wanted},
            {"sample_rate": checkpoint.clip.sample_rate}
            | {name: list(its[name].shape) for name in its if not name.startswith("heads.") or name in wanted},
            str(path),
            "Choose a student of the same layers, and shards of the same sample rate.",
        )
        self.network.load_state_dict(mine | {name: its[name] for name in wanted})
        return fitting

    def checkpoint(self, settings: TrainSettings, catalog: Catalog, *, to_use: bool = False) -> Checkpoint:
        """A copy of all this: to go on from, or to use, which needs no optimizer."""
        is_student = settings.student.kind == "student"
        means = {head: torch.from_numpy(mean).float() for head, mean in catalog.mean_posterior.items()}
        return Checkpoint(
            spec=settings.student,
            clip=catalog.clip,
            teachers=catalog.cards if is_student else {},
            network=copied(self.network.state_dict()),
            training_mean=means if is_student else None,
            optimizer=None if to_use else copied(self.optimizer.state_dict()),
            position={"step": self.step, "consumed": self.consumed, "seed": settings.seed},
            best=None if math.isinf(self.best) else self.best,
            held_out=self.held_out,
            config=plain(settings),
        )
