"""Validation: how far the student is from its teachers on held-out clips, beside two predictions that need no sound."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shards.errors import UserError
from shards.format.example import video_of
from shards.loader.catalog import Catalog
from train.checkpoint.checkpoint import TOP
from train.data.batches import DeviceBatch
from train.model.frontend import network_input
from train.trainer.losses import divergence, per_step


class BrokenOff(Exception):
    """The held-out clips were not measured to the end, since the run is to stop."""


class Score(Protocol):
    """What is measured of a prediction on its batch."""

    @property
    def measures(self) -> Sequence[str]: ...

    def __call__(self, prediction: Any, batch: DeviceBatch, /) -> Mapping[str, Tensor]:
        """{each of `measures`: (rows,)}."""
        ...


@dataclass(frozen=True)
class Validation:
    """Held-out clips measured: `clips` maps a measure (objects/kl) to float64 (clips,), in the order of `keys`."""

    keys: Sequence[str]
    clips: Mapping[str, NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """Each measure's mean over clips, whatever their length."""
        return {measure: float(values.mean()) for measure, values in self.clips.items()}

    @property
    def videos(self) -> list[dict[str, Any]]:
        """The same for each video, in the shards' order: {"video": key, "clips": how many, measure: mean, ...}."""
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(self.keys):
            rows.setdefault(video_of(key), []).append(row)
        return [
            {"video": video, "clips": len(at)} | {name: float(values[at].mean()) for name, values in self.clips.items()}
            for video, at in rows.items()
        ]

    def of(self, keys: Container[str]) -> Validation:
        """These clips alone."""
        rows = [row for row, key in enumerate(self.keys) if key in keys]
        return Validation([self.keys[row] for row in rows], {name: each[rows] for name, each in self.clips.items()})

    @property
    def loss(self) -> float:
        """What the best checkpoint is chosen by: the students' divergences added up, or the reconstruction error."""
        return sum(value for measure, value in self.means.items() if measure.rpartition("/")[2] in ("kl", "mse"))


@torch.no_grad()
def validate(
    network: nn.Module,
    predict: Callable[[DeviceBatch], Any],
    batches: Iterable[DeviceBatch],
    score: Score,
    keys: Sequence[str],
    device: torch.device,
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    total: Callable[[Tensor], Tensor] = lambda values: values,
    stopping: Callable[[], bool] = lambda: False,
) -> Validation:
    """Measure `predict` on all clips; `network`, which it calls, is in eval mode meanwhile. `total` sums over ranks.

    A rank may have no batch. Skipped clips are left out. Raises UserError where no other is left, and BrokenOff, on all
    ranks, where one of them is `stopping`.
    """
    # A row for each measure, and one for whether a clip is measured; a column more for whether the rank broke off. The
    # same on every rank, so one sum is enough.
    table = torch.zeros(len(score.measures) + 1, len(keys) + 1, device=device)
    network.eval()
    for batch in batches:
        if stopping():
            table[:, -1] = 1
            break
        with autocast():
            found = score(predict(batch), batch)
        rows = [found[measure].float() for measure in score.measures]
        whole = torch.ones_like(rows[0])
        whole[[skip.row for skip in batch.skipped]] = 0
        columns = torch.from_numpy(batch.clips).to(device)
        table[:, columns] = torch.stack([*rows, whole])[:, : len(columns)]
    network.train()
    table = total(table).double().cpu()
    if table[0, -1] > 0:
        raise BrokenOff
    *values, whole = table[:, :-1].numpy()
    is_measured = whole > 0
    if not is_measured.any():
        raise UserError(
            f"none of the {len(keys)} held-out clips was read: see the run's list of skipped clips, or "
            "streaming.validation_urls where they are set"
        )
    clips = {measure: row[is_measured] for measure, row in zip(score.measures, values, strict=True)}
    return Validation(list(itertools.compress(keys, is_measured)), clips)


def baseline(catalog: Catalog, device: torch.device) -> dict[str, Tensor]:
    """{head: the training set's mean posterior (classes,)} as a prediction for every clip.

    One even window is counted in, so that no class is impossible.
    """
    windows = catalog.summed_windows
    return {
        head: torch.from_numpy((total + 1 / len(total)) / (windows + 1)).float().to(device)
        for head, total in catalog.posterior_sums.items()
    }


class StudentScore:
    """For each head: KL from the teacher and agreement with its first choice; the same for what needs no sound.

    `means` is `baseline`, {head: (classes,)}; `uniform` is the even prediction.
    """

    def __init__(self, means: Mapping[str, Tensor]) -> None:
        self._means = means
        kinds = ["kl", "kl_uniform", "kl_mean", *(f"top{count}{of}" for count in (1, TOP) for of in ("", "_mean"))]
        self.measures = [f"{head}/{kind}" for head in means for kind in kinds]

    def __call__(self, logits: Mapping[str, Tensor], batch: DeviceBatch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for head, output in logits.items():
            student = output.float().log_softmax(dim=1)  # (rows, classes, steps)
            teacher = per_step(batch.posteriors[head], student.shape[2])
            constant = self._means[head].float().log()[None, :, None].expand_as(student)
            even = torch.full_like(student, -math.log(student.shape[1]))
            found[f"{head}/kl"] = divergence(teacher, student).mean(dim=1)
            found[f"{head}/kl_uniform"] = divergence(teacher, even).mean(dim=1)
            found[f"{head}/kl_mean"] = divergence(teacher, constant).mean(dim=1)
            for count in (1, TOP):
                found[f"{head}/top{count}"] = agreement(teacher, student, count)
                found[f"{head}/top{count}_mean"] = agreement(teacher, constant, count)
        return found


class AutoencoderScore:
    """Squared error of each clip, beside that of silence."""

    measures = ("mse", "mse_silence")

    def __call__(self, rebuilt: Tensor, batch: DeviceBatch) -> dict[str, Tensor]:
        waveform = network_input(batch.waveform, batch.gain)
        return {
            "mse": (rebuilt.float() - waveform).square().mean(dim=1),
            "mse_silence": waveform.square().mean(dim=1),
        }


def agreement(teacher: Tensor, log_prediction: Tensor, count: int) -> Tensor:
    """The share of steps at which the teacher's first class is among the prediction's first `count`: (rows,)."""
    first = teacher.argmax(dim=1, keepdim=True)  # (rows, 1, steps)
    chosen = log_prediction.topk(min(count, log_prediction.shape[1]), dim=1).indices
    return (chosen == first).any(dim=1).float().mean(dim=1)
