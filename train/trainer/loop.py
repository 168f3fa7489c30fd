"""The training loop, for any network, batches and objective: it takes values, not settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from train.trainer.meter import Meter, Reading, gradient_norm

B = TypeVar("B")
P = TypeVar("P")


@dataclass(frozen=True)
class Every:
    """Something to do now and then: after every so many steps, and after the last. 0: never, not even then.

    `first`: where the loop begins, too, if it is due there: before the first step of all, or after an earlier run's.
    What `act` returns is true where it broke off, since the run is to stop.
    """

    every: int
    act: Callable[[int], object]
    first: bool = False

    def due(self, step: int, last: bool) -> bool:
        return self.every > 0 and (last or step % self.every == 0)


NEVER = Every(0, lambda step: None)
EARLY_REPORTS = (1, 5, 20)  # steps after which something is said, that one need not wait for the first `report_every`


@dataclass(frozen=True)
class GradientDescent(Generic[B, P]):
    """How a step is taken: forward, loss, backward, step.

    Its gradient is the mean of those of `accumulate` batches, and of all ranks by `share`, made no longer than
    `clip_norm`; `rate` says its learning rate, by the number of steps before it.
    """

    network: Callable[[B], P]
    objective: Callable[[P, B], Tensor]
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    rate: Callable[[int], float] | None = None
    share: Callable[[list[nn.Parameter]], None] = lambda parameters: None
    clip_norm: float = math.inf
    accumulate: int = 1

    def take(self, step: int, batches: Iterator[B], meter: Meter) -> None:
        """The step behind the first `step` ones."""
        losses = []
        for _ in range(self.accumulate):
            batch = meter.wait(batches)
            with self.autocast():
                loss = self.objective(self.network(batch), batch) / self.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        self.share(parameters)
        norm = gradient_norm(parameters)
        meter.add(step + 1, torch.stack(losses).sum(), norm)
        if self.clip_norm < math.inf:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        if self.rate is not None:
            for group in groups:
                group["lr"] = self.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def train(
    descent: GradientDescent[B, P],
    batches: Iterator[B],
    meter: Meter,
    *,
    steps: int,
    first_step: int = 0,
    report: Callable[[int, Reading], None] = lambda step, reading: None,
    report_every: int = 50,
    validate: Every = NEVER,
    save: Every = NEVER,
    keep: Every = NEVER,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Train until `steps` steps are taken in all, `first_step` of them before; returns how many were.

    That is fewer where `stopping` returned true, after saving. Raises Diverged at the report, and before anything is
    measured or written, after a step that was not finite.
    """
    for step in itertools.count(first_step):
        last, stop, moved = step >= steps, stopping(), step > first_step
        if moved and (last or stop or step % report_every == 0 or step - first_step in EARLY_REPORTS):
            report(step, meter.read())
        measuring = not stop and (moved or validate.first) and validate.due(step, last)
        if measuring:
            meter.require_finite()
            with meter.paused():
                stop = bool(validate.act(step))
        # What is kept apart is written before the checkpoint that a killed run goes on from.
        if moved and keep.due(step, last):
            meter.require_finite()
            keep.act(step)
        if step and (moved or measuring) and (save.due(step, last) or (stop and save.every)):
            meter.require_finite()
            save.act(step)
        if last or stop:
            return step
        descent.take(step, batches, meter)
    raise AssertionError("unreachable: itertools.count does not end")
