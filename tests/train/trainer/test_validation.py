"""Validation against loops in float64: divergences, agreement, the two baselines, and the listing by video."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shards.errors import UserError
from shards.loader.batch import Skip
from train.data.batches import DeviceBatch
from train.trainer.validation import AutoencoderScore, StudentScore, Validation, agreement, validate

ROWS, CLASSES, STEPS = 3, 7, 2


def make_batch(position: int, count: int, windows: int = 4) -> DeviceBatch:
    random = np.random.default_rng(position)
    posteriors = random.dirichlet(np.full(CLASSES, 0.3), (ROWS, windows)).astype(np.float16)
    posteriors[count:] = 0
    waveform = random.integers(-(2**15), 2**15, (ROWS, 20), dtype=np.int16)
    return DeviceBatch(
        torch.from_numpy(waveform),
        None,
        {"objects": torch.from_numpy(posteriors)},
        np.arange(position, position + count),
        position + count,
    )


class Guess(nn.Module):
    """A network whose logits depend on the clip, and which says in which mode it was asked."""

    def forward(self, batch: DeviceBatch) -> dict[str, Tensor]:
        self.asked_in_training = self.training
        generator = torch.Generator().manual_seed(int(batch.clips[0]))
        return {"objects": 3 * torch.randn(ROWS, CLASSES, STEPS, generator=generator)}


MEAN = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
BATCHES = [make_batch(0, 3), make_batch(3, 2)]


def expected(clip: int) -> dict[str, float]:
    """Every measure of one clip, by loops over steps and classes."""
    batch, row = BATCHES[clip // 3], clip % 3
    logits = Guess()(batch)["objects"][row].double().numpy()  # (classes, steps)
    sums = dict.fromkeys(["kl", "kl_uniform", "kl_mean", "top1", "top5", "top1_mean", "top5_mean"], 0.0)
    for step in range(STEPS):
        windows = batch.posteriors["objects"][row, 2 * step : 2 * step + 2].double().numpy()
        teacher = windows.mean(axis=0)
        student = np.exp(logits[:, step]) / np.exp(logits[:, step]).sum()
        for name, prediction in {"kl": student, "kl_uniform": np.full(CLASSES, 1 / CLASSES), "kl_mean": MEAN}.items():
            sums[name] += sum(g * math.log(g / f) for g, f in zip(teacher, prediction, strict=True) if g > 0) / STEPS
        first = max(range(CLASSES), key=lambda name: teacher[name])
        for suffix, prediction in {"": student, "_mean": MEAN}.items():
            better = sum(prediction[other] > prediction[first] for other in range(CLASSES))
            sums[f"top1{suffix}"] += (better < 1) / STEPS
            sums[f"top5{suffix}"] += (better < 5) / STEPS
    return sums


def test_every_measure_of_every_clip_is_the_formulas() -> None:
    network = Guess()
    score = StudentScore({"objects": torch.from_numpy(MEAN).float()})
    keys = ["a%2Emp4-00000", "a%2Emp4-00001", "b-c%2Emp4-00000", "b-c%2Emp4-00001", "b-c%2Emp4-00002"]
    device = torch.device("cpu")
    found = validate(network, network, BATCHES, score, keys, device, autocast=nullcontext)
    assert network.asked_in_training is False and network.training
    by_clip = [expected(clip) for clip in range(5)]
    for measure in by_clip[0]:
        wanted = [clip[measure] for clip in by_clip]
        if measure in ("top1_mean", "top5_mean"):  # ties among MEAN's values are broken either way
            continue
        np.testing.assert_allclose(found.clips[f"objects/{measure}"], wanted, rtol=1e-5, atol=1e-6)
    assert found.means["objects/kl"] == pytest.approx(np.mean([clip["kl"] for clip in by_clip]), rel=1e-5)
    assert found.loss == pytest.approx(found.means["objects/kl"])
    assert [(video["video"], video["clips"]) for video in found.videos] == [("a%2Emp4", 2), ("b-c%2Emp4", 3)]
    assert found.videos[1]["objects/kl"] == pytest.approx(np.mean([clip["kl"] for clip in by_clip[2:]]), rel=1e-5)


def test_the_mean_posteriors_agreement_counts_its_first_classes() -> None:
    teacher = torch.eye(7)[None].transpose(1, 2)  # one clip of 7 steps, each sure of another class
    falling = torch.arange(7, 0, -1.0)[None, :, None].expand(1, 7, 7)
    assert agreement(teacher, falling, 1).tolist() == pytest.approx([1 / 7])
    assert agreement(teacher, falling, 5).tolist() == pytest.approx([5 / 7])


def test_an_autoencoder_is_measured_beside_silence() -> None:
    batch = make_batch(0, 3)
    exact = batch.waveform.double().numpy() / 128
    rebuilt = batch.waveform.float() / 128 + 2
    found = AutoencoderScore()(rebuilt, batch)
    np.testing.assert_allclose(found["mse"], np.full(ROWS, 4.0), rtol=1e-5)
    np.testing.assert_allclose(found["mse_silence"], (exact**2).mean(axis=1), rtol=1e-5)
    validation = Validation(["a-0", "b-0", "c-0"], {name: value.double().numpy() for name, value in found.items()})
    assert validation.loss == pytest.approx(4.0)


def test_a_skipped_clip_is_measured_nowhere() -> None:
    batches = [replace(BATCHES[0], skipped=[Skip(1, 1, "damaged")]), BATCHES[1]]
    keys = [f"v-{clip}" for clip in range(5)]
    score = StudentScore({"objects": torch.from_numpy(MEAN)})
    found = validate(Guess(), Guess(), batches, score, keys, torch.device("cpu"), autocast=nullcontext)
    assert found.keys == ["v-0", "v-2", "v-3", "v-4"] and found.videos[0]["clips"] == 4
    mean = np.mean([expected(clip)["kl"] for clip in (0, 2, 3, 4)])
    assert found.loss == pytest.approx(mean, rel=1e-5)


def test_a_rank_without_a_batch_adds_nothing_to_the_sum() -> None:
    keys, score = [f"v-{clip}" for clip in range(5)], StudentScore({"objects": torch.from_numpy(MEAN)})
    tables: list[Tensor] = []

    def total(values: Tensor) -> Tensor:
        tables.append(values.clone())
        return sum(tables, torch.zeros(()))

    with pytest.raises(UserError, match="none of the 5 held-out clips was read"):
        validate(Guess(), Guess(), [], score, keys, torch.device("cpu"), autocast=nullcontext, total=total)
    found = validate(Guess(), Guess(), BATCHES, score, keys, torch.device("cpu"), autocast=nullcontext, total=total)
    assert found.keys == keys and found.loss == pytest.approx(np.mean([expected(clip)["kl"] for clip in range(5)]))
    part = found.of({"v-1", "v-4"})
    assert part.keys == ["v-1", "v-4"]
    assert part.loss == pytest.approx(np.mean([expected(clip)["kl"] for clip in (1, 4)]), rel=1e-5)
