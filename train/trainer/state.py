"""The network under training with its optimizer, and how far it is: created, resumed, saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from shards.errors import UserError
from shards.loader.catalog import Catalog
from train.checkpoint.checkpoint import Checkpoint, build, load, save
from train.checkpoint.modelcard import write_card
from train.device.distributed import Ranks
from train.runfolder import RunFolder
from train.settings import TrainSettings, plain


@dataclass
class TrainState:
    """What changes as a run goes on."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    consumed: int = 0  # clips of the training stream, all ranks together
    best: float = math.inf  # the lowest validation loss so far
    held_out: dict[str, Any] | None = None  # the latest validation, as a checkpoint keeps it

    @classmethod
    def create(cls, settings: TrainSettings, catalog: Catalog, device: torch.device) -> Self:
        """A new network as the paper initialises it, under Adam (section 3.4)."""
        heads = catalog.classes if settings.student.kind == "student" else {}
        network = build(settings.student, heads, sample_rate=catalog.clip.sample_rate, seed=settings.seed).to(device)
        betas = (settings.beta1, 0.999)
        return cls(network, torch.optim.Adam(network.parameters(), lr=settings.lr, betas=betas, fused=True))

    def resume(self, path: Path, ranks: Ranks, settings: TrainSettings) -> None:
        """Become what a run's last checkpoint holds; rank 0 alone reads it. Raises UserError without an optimizer."""
        checkpoint = ranks.share(load(path) if ranks.is_first and path.exists() else None)
        if checkpoint is None:
            return
        if checkpoint.optimizer is None or checkpoint.position is None:
            raise UserError(f"{path} is not a checkpoint to go on from: delete it, or say run=another/folder")
        self.network.load_state_dict(checkpoint.network)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.consumed = checkpoint.position["step"], checkpoint.position["consumed"]
        if checkpoint.best is not None and checkpoint.config["validate_clips"] == settings.validate_clips:
            self.best = checkpoint.best  # of other clips it would not be the best of these
        self.held_out = checkpoint.held_out

    def save(self, settings: TrainSettings, catalog: Catalog, folder: RunFolder, *, as_best: bool = False) -> None:
        """Save as the run's last checkpoint, or as its best, which is there to be used and holds no optimizer.

        The model card beside them is of the best one; where nothing is held out, of the last.
        """
        is_student = settings.student.kind == "student"
        means = {head: torch.from_numpy(mean).float() for head, mean in catalog.mean_posterior.items()}
        checkpoint = Checkpoint(
            spec=settings.student,
            clip=catalog.clip,
            teachers=catalog.cards if is_student else {},
            network=self.network.state_dict(),
            training_mean=means if is_student else None,
            optimizer=None if as_best else self.optimizer.state_dict(),
            position={"step": self.step, "consumed": self.consumed, "seed": settings.seed},
            best=None if math.isinf(self.best) else self.best,
            held_out=self.held_out,
            config=plain(settings),
        )
        path = folder.best if as_best else folder.last
        save(path, checkpoint)
        if as_best or self.held_out is None:
            write_card(folder.card, checkpoint, path.name)
