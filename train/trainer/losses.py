"""The losses: distances between the student's logits and the teachers' posteriors, in float32 (Equation 3, Table 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from shards.errors import ContractError
from shards.format.clip import ClipSpec
from train.model.layers import StudentSpec

TORCH7_WEIGHT = 250.0  # `lambda` in the authors' main_train.lua

Logits = Mapping[str, Tensor]  # head -> (batch, classes, steps)
Posteriors = Mapping[str, Tensor]  # head -> (batch, windows, classes); windows a multiple of steps


def kl(logits: Logits, posteriors: Posteriors) -> Tensor:
    """Sum over teachers of D_KL(g || f) = sum_c g_c log(g_c / f_c), mean over batch and steps (section 3.2)."""
    return torch.stack([_divergence(logits[head], posteriors[head]).mean() for head in logits]).sum()


def l2(logits: Logits, posteriors: Posteriors) -> Tensor:
    """Sum over teachers of sum_c (f_c - g_c)^2, mean over batch and steps.

    Table 5's "l2 loss on the target outputs", read as the student's softmax against the posterior.
    """
    total = []
    for head in logits:
        student = logits[head].float().softmax(dim=1)
        distance = (student - per_step(posteriors[head], student.shape[2])).square().sum(dim=1)  # (batch, steps)
        total.append(distance.mean())
    return torch.stack(total).sum()


def torch7(logits: Logits, posteriors: Posteriors) -> Tensor:
    """The authors' code: 250 times the mean, over all heads and steps, of D_KL averaged over batch and classes.

    Torch7's DistKLDivCriterion divides by batch times classes, so a head of few classes weighs more: with 1000 and
    401 classes and 2 x 4 terms, objects weigh 250 / (8 * 1000) a step and scenes 250 / (8 * 401).
    """
    terms = [_divergence(logits[head], posteriors[head]).mean() / logits[head].shape[1] for head in logits]
    return TORCH7_WEIGHT * torch.stack(terms).mean()


LOSSES: dict[str, Callable[[Logits, Posteriors], Tensor]] = {"kl": kl, "l2": l2, "torch7": torch7}


def per_step(posteriors: Tensor, steps: int) -> Tensor:
    """(batch, windows, classes) -> float32 (batch, classes, steps): neighbouring windows averaged where they are more.

    As in the authors' code step i meets window i, although their centres differ: in 20 s, SoundNet8's steps sit at
    4.75, 7.72, 10.69 and 13.66 s, the windows at 2.5, 7.5, 12.5 and 17.5 s.
    """
    batch, windows, classes = posteriors.shape
    return posteriors.float().reshape(batch, steps, windows // steps, classes).mean(dim=2).transpose(1, 2)


def divergence(teacher: Tensor, log_student: Tensor) -> Tensor:
    """D_KL(g || f) = sum_c g_c (log g_c - log f_c) of g and log f, (batch, classes, steps): (batch, steps).

    A class that the teacher excludes adds nothing: 0 log 0 is 0.
    """
    return (torch.xlogy(teacher, teacher) - teacher * log_student).sum(dim=1)


def _divergence(logits: Tensor, posteriors: Tensor) -> Tensor:
    """The same of a head's logits and posteriors, in float32 also under autocast."""
    student = logits.float().log_softmax(dim=1)
    return divergence(per_step(posteriors, student.shape[2]), student)


def windows_per_step(spec: StudentSpec, clip: ClipSpec) -> int:
    """How many label windows one output step answers for. To be asked before training.

    Raises ContractError where the windows are not a multiple of the steps; it names the clips that fit.
    """
    steps = spec.steps(clip.samples)
    if steps and clip.windows % steps == 0:
        return clip.windows // steps
    fitting = sorted(fitting_seconds(spec, clip), key=lambda seconds: abs(seconds - clip.seconds))
    remedies = [f"clip.windows={steps}"] if steps and clip.samples % steps == 0 else []
    remedies += [f"clip.seconds={seconds}" for seconds in fitting[:4]]
    raise ContractError(
        f"{clip.windows} label windows in {clip.seconds:g} s, but {steps} output steps of {spec.name} (the first needs "
        f"{spec.min_samples() / clip.sample_rate:.3f} s); windows must be a multiple of steps. What fits: "
        f"{' or '.join(remedies) or 'nothing up to 120 s'}, in shards made with that"
    )


def fitting_seconds(spec: StudentSpec, clip: ClipSpec, longest: int = 120) -> list[int]:
    """Clip lengths in whole seconds up to `longest` whose output steps divide this clip's number of windows."""
    fitting = []
    for seconds in range(1, longest + 1):
        steps = spec.steps(clip.sample_rate * seconds)
        if steps and clip.windows % steps == 0 and clip.sample_rate * seconds % clip.windows == 0:
            fitting.append(seconds)
    return fitting
