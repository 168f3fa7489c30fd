"""Validation: how far the student is from its teachers on held-out clips, beside two predictions that hear nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shards.errors import UserError
from shards.format.example import video_of
from train.checkpoint.checkpoint import TOP
from train.data.batches import DeviceBatch
from train.model.frontend import heard
from train.trainer.losses import per_step

Score = Callable[[Any, DeviceBatch], dict[str, Tensor]]  # measure -> (rows,)


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

    @property
    def loss(self) -> float:
        """What the best checkpoint is chosen by: the students' divergences added up, or the reconstruction error."""
        return sum(value for measure, value in self.means.items() if measure.rpartition("/")[2] in ("kl", "mse"))


@torch.no_grad()
def validate(
    ear: nn.Module,
    network: Callable[[DeviceBatch], Any],
    batches: Iterable[DeviceBatch],
    score: Score,
    keys: Sequence[str],
    device: torch.device,
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> Validation:
    """Measure all clips; `ear` is put into eval mode meanwhile. `total` adds up what several ranks have measured.

    Skipped clips are left out. Raises UserError where no other is left.
    """
    measured: dict[str, Tensor] = {}  # measure -> (clips,)
    heard_clips = torch.zeros(len(keys), device=device)
    ear.eval()
    for batch in batches:
        with autocast():
            prediction = network(batch)
        for measure, values in score(prediction, batch).items():
            table = measured.setdefault(measure, torch.zeros(len(keys), device=device))
            table[batch.position : batch.position + batch.count] = values[: batch.count]
        heard_clips[batch.position : batch.position + batch.count] = 1
        for skip in batch.skipped:
            heard_clips[batch.position + skip.row] = 0
    ear.train()
    kept = total(heard_clips).bool().cpu().numpy()
    if not kept.any():
        raise UserError(f"none of the {len(keys)} held-out clips can be read: see the run's list of skipped clips")
    tables = {name: total(values).double().cpu().numpy()[kept] for name, values in measured.items()}
    return Validation([key for key, keep in zip(keys, kept, strict=True) if keep], tables)


def student_score(means: Mapping[str, Tensor]) -> Score:
    """For each head: KL to the teacher and agreement with its first choice; the same for what needs no sound.

    `means` are the training set's mean posteriors, {head: (classes,)}; `uniform` is the even prediction.
    """

    def score(logits: Mapping[str, Tensor], batch: DeviceBatch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for head, output in logits.items():
            student = output.float().log_softmax(dim=1)  # (rows, classes, steps)
            teacher = per_step(batch.posteriors[head], student.shape[2])
            constant = means[head].float().log()[None, :, None].expand_as(student)
            even = torch.full_like(student, -math.log(student.shape[1]))
            found[f"{head}/kl"] = divergence(teacher, student)
            found[f"{head}/kl_uniform"] = divergence(teacher, even)
            found[f"{head}/kl_mean"] = divergence(teacher, constant)
            for count in (1, TOP):
                found[f"{head}/top{count}"] = agreement(teacher, student, count)
                found[f"{head}/top{count}_mean"] = agreement(teacher, constant, count)
        return found

    return score


def autoencoder_score(rebuilt: Tensor, batch: DeviceBatch) -> dict[str, Tensor]:
    """Squared error of each clip, beside that of silence."""
    waveform = heard(batch.waveform, batch.gain)
    return {
        "mse": (rebuilt.float() - waveform).square().mean(dim=1),
        "mse_silence": waveform.square().mean(dim=1),
    }


def divergence(teacher: Tensor, log_prediction: Tensor) -> Tensor:
    """D_KL(teacher || prediction) of (rows, classes, steps), averaged over steps: (rows,)."""
    return (torch.xlogy(teacher, teacher) - teacher * log_prediction).sum(dim=1).mean(dim=1)


def agreement(teacher: Tensor, log_prediction: Tensor, count: int) -> Tensor:
    """The share of steps at which the teacher's first class is among the prediction's first `count`: (rows,)."""
    first = teacher.argmax(dim=1, keepdim=True)  # (rows, 1, steps)
    chosen = log_prediction.topk(min(count, log_prediction.shape[1]), dim=1).indices
    return (chosen == first).any(dim=1).float().mean(dim=1)
