"""The losses against formulas written out in float64 loops, and the check that labels and output steps meet."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shards.cli.command import compose
from shards.errors import UserError
from shards.format.clip import ClipSpec
from train.model.layers import StudentSpec
from train.trainer.losses import LOSSES, fitting_seconds, kl, per_step, windows_per_step

CLASSES = {"objects": 11, "scenes": 5}
BATCH, STEPS = 3, 4


def logits(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {head: 3 * torch.randn(BATCH, classes, STEPS, generator=generator) for head, classes in CLASSES.items()}


def posteriors(windows: int = STEPS, seed: int = 0) -> dict[str, torch.Tensor]:
    """float16 as the shards hold them, with some classes at exactly 0."""
    random = np.random.default_rng(seed)
    drawn = {head: random.dirichlet(np.full(classes, 0.3), (BATCH, windows)) for head, classes in CLASSES.items()}
    for each in drawn.values():
        each[..., 0] = 0
    return {head: torch.from_numpy(each.astype(np.float16)) for head, each in drawn.items()}


def log_softmax(column: NDArray[np.float64]) -> NDArray[np.float64]:
    top = column.max()
    return column - top - math.log(sum(math.exp(each - top) for each in column))


def reference(name: str, student: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor]) -> float:
    """One term per example, step and head, summed and weighted as each source says."""
    total = 0.0
    for head, classes in CLASSES.items():
        f, g = student[head].double().numpy(), teacher[head].double().numpy()
        per = g.shape[1] // STEPS
        for example in range(BATCH):
            for step in range(STEPS):
                log_f = log_softmax(f[example, :, step])
                label = sum(g[example, step * per + window] for window in range(per)) / per
                divergence = sum(p * (math.log(p) - q) for p, q in zip(label, log_f, strict=True) if p > 0)
                squares = sum((p - math.exp(q)) ** 2 for p, q in zip(label, log_f, strict=True))
                total += {
                    "kl": divergence / (BATCH * STEPS),
                    "l2": squares / (BATCH * STEPS),
                    # main_train.lua: each of 2 x 4 criteria averages over batch and classes, / 8, * 250
                    "torch7": 250 / 8 * divergence / (BATCH * classes),
                }[name]
    return total


@pytest.mark.parametrize("windows", [STEPS, 3 * STEPS])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_matches_its_float64_reference(name: str, windows: int) -> None:
    student, teacher = logits(), posteriors(windows)
    found = LOSSES[name](student, teacher)
    assert found.dtype == torch.float32 and found.shape == ()
    assert float(found) == pytest.approx(reference(name, student, teacher), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_computed_in_float32_under_autocast(name: str) -> None:
    student = {head: each.bfloat16() for head, each in logits().items()}
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](student, posteriors())
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(reference(name, student, posteriors()), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_zero_with_no_slope_where_the_student_is_right(name: str) -> None:
    student = {head: each.requires_grad_() for head, each in logits().items()}
    teacher = {head: each.detach().softmax(dim=1).transpose(1, 2) for head, each in student.items()}
    loss = LOSSES[name](student, teacher)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert all(each.grad is not None and each.grad.abs().max() < 1e-5 for each in student.values())


def test_slope_of_kl_is_student_minus_teacher() -> None:
    student = {head: each.requires_grad_() for head, each in logits().items()}
    teacher = posteriors()
    kl(student, teacher).backward()
    for head, each in student.items():
        label = teacher[head].double().transpose(1, 2)
        expected = (each.detach().double().softmax(dim=1) * label.sum(dim=1, keepdim=True) - label) / (BATCH * STEPS)
        torch.testing.assert_close(each.grad, expected.float(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    student = {head: (1000 * each).requires_grad_() for head, each in logits().items()}
    loss = LOSSES[name](student, posteriors())
    loss.backward()
    assert loss.isfinite() and all(each.grad is not None and each.grad.isfinite().all() for each in student.values())


def test_only_the_heads_of_the_student_count() -> None:
    student, teacher = logits(), posteriors()
    both = float(kl(student, teacher))
    alone = [float(kl({head: student[head]}, teacher)) for head in student]
    assert both == pytest.approx(sum(alone), rel=1e-6) and min(alone) > 0


def test_torch7_weighs_heads_by_their_classes() -> None:
    """Of 1000 and 401 classes, a step's divergence counts 250 / 8000 and 250 / 3208: 0.03125 and 0.0779."""
    student = {head: torch.zeros(1, classes, 4) for head, classes in {"objects": 1000, "scenes": 401}.items()}
    label = {head: torch.zeros(1, 4, each.shape[1]) for head, each in student.items()}
    for each in label.values():
        each[:, :, 7] = 1  # divergence from the uniform student: log(classes), in every step
    expected = 4 * (0.03125 * math.log(1000) + 250 / 3208 * math.log(401))
    assert float(LOSSES["torch7"](student, label)) == pytest.approx(expected, rel=1e-5)


def test_neighbouring_windows_are_averaged_to_steps() -> None:
    windows = torch.arange(12, dtype=torch.float16).reshape(1, 6, 2)
    assert per_step(windows, 3).tolist() == [[[1, 5, 9], [2, 6, 10]]]


@pytest.mark.parametrize(
    ("name", "clip", "per"),
    [
        ("soundnet8", ClipSpec(), 1),
        ("soundnet5", ClipSpec(), 1),
        ("soundnet8", ClipSpec(windows=8), 2),
        ("soundnet8", ClipSpec(seconds=10, windows=2), 2),
    ],
)
def test_windows_per_step(name: str, clip: ClipSpec, per: int) -> None:
    assert windows_per_step(compose(StudentSpec, f"student/{name}"), clip) == per


def test_windows_that_do_not_meet_steps_name_what_fits() -> None:
    spec = compose(StudentSpec, "student/soundnet8")
    with pytest.raises(UserError, match=r"6 label windows in 20 s, but 4 output steps") as caught:
        windows_per_step(spec, ClipSpec(windows=6))
    offers = [part.split("=") for part in str(caught.value).replace(",", "").split() if part.startswith("clip.")]
    assert len(offers) > 2
    for key, value in offers:  # each offer, taken, fits
        clip = ClipSpec(windows=int(value)) if key == "clip.windows" else ClipSpec(seconds=int(value), windows=6)
        assert windows_per_step(spec, clip) >= 1


def test_a_clip_too_short_for_one_step_names_what_fits() -> None:
    spec = compose(StudentSpec, "student/soundnet8")
    with pytest.raises(UserError, match=r"0 output steps of soundnet8 \(the first needs 9\.495 s\).*clip\.seconds=10"):
        windows_per_step(spec, ClipSpec(seconds=5, windows=1))
    assert fitting_seconds(spec, ClipSpec(windows=4)) == [10, 12, 14, 20]  # an odd second does not divide by 4
