"""The network under training with its optimizer and how far it is: begun, gone on with, saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shards.errors import UserError
from shards.loader.catalog import Catalog
from train.checkpoint.checkpoint import Checkpoint, build, load, save
from train.checkpoint.modelcard import write_card
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


def begin(settings: TrainSettings, catalog: Catalog, device: torch.device) -> TrainState:
    """A new network as the paper initialises it, under Adam (section 3.4)."""
    heads = catalog.classes if settings.student.kind == "student" else {}
    network = build(settings.student, heads, sample_rate=catalog.clip.sample_rate, seed=settings.seed).to(device)
    betas = (settings.beta1, 0.999)
    return TrainState(network, torch.optim.Adam(network.parameters(), lr=settings.lr, betas=betas, fused=True))


def go_on(pupil: TrainState, folder: RunFolder, device: torch.device) -> None:
    """Take up the run's last checkpoint, where there is one. Raises UserError where it holds no optimizer."""
    if not folder.last.exists():
        return
    checkpoint = load(folder.last, str(device))
    if checkpoint.optimizer is None or checkpoint.position is None:
        raise UserError(f"{folder.last} is not a checkpoint to go on from: delete it, or say run=another/folder")
    pupil.network.load_state_dict(checkpoint.network)
    pupil.optimizer.load_state_dict(checkpoint.optimizer)
    pupil.step, pupil.consumed = checkpoint.position["step"], checkpoint.position["consumed"]
    pupil.best = math.inf if checkpoint.best is None else checkpoint.best
    pupil.held_out = checkpoint.held_out


def keep(
    pupil: TrainState, settings: TrainSettings, catalog: Catalog, folder: RunFolder, *, as_best: bool = False
) -> None:
    """Save as the run's last checkpoint, or as its best, which is there to be used and holds no optimizer.

    The model card beside them is of the best one; where nothing is held out, of the last.
    """
    teaches = settings.student.kind == "student"
    checkpoint = Checkpoint(
        spec=settings.student,
        clip=catalog.clip,
        teachers=catalog.cards if teaches else {},
        network=pupil.network.state_dict(),
        training_mean=mean_posteriors(catalog) if teaches else None,
        optimizer=None if as_best else pupil.optimizer.state_dict(),
        position={"step": pupil.step, "consumed": pupil.consumed, "seed": settings.seed},
        best=None if math.isinf(pupil.best) else pupil.best,
        held_out=pupil.held_out,
        config=plain(settings),
    )
    path = folder.best if as_best else folder.last
    save(path, checkpoint)
    if as_best or pupil.held_out is None:
        write_card(folder.card, checkpoint, path.name)


def mean_posteriors(catalog: Catalog) -> dict[str, Tensor]:
    """{head: mean posterior of the training set (classes,)}, from the side files."""
    return {head: torch.from_numpy(mean).float() for head, mean in catalog.mean_posterior.items()}


def baseline(catalog: Catalog, device: torch.device) -> dict[str, Tensor]:
    """The mean posteriors as a prediction: with one even window counted in, so that no class is impossible."""
    windows = float(catalog.windows.sum())
    return {
        head: torch.from_numpy((total + 1 / len(total)) / (windows + 1)).float().to(device)
        for head, total in catalog.posterior_sums.items()
    }
