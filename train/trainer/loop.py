"""The training loop, for any network, batches and objective: it takes values, not settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from train.trainer.meter import Meter, Reading, gradient_norm

B = TypeVar("B")
P = TypeVar("P")


@dataclass(frozen=True)
class Every:
    """Something to do now and then: after every so many steps, and after the last. 0: never, not even then."""

    every: int
    act: Callable[[int], None]

    def due(self, step: int, last: bool) -> bool:
        return self.every > 0 and (last or step % self.every == 0)


NEVER = Every(0, lambda step: None)


def train(
    network: Callable[[B], P],
    batches: Iterator[B],
    objective: Callable[[P, B], Tensor],
    optimizer: torch.optim.Optimizer,
    meter: Meter,
    *,
    steps: int,
    first_step: int = 0,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    report: Callable[[int, Reading], None] = lambda step, reading: None,
    report_every: int = 50,
    validate: Every = NEVER,
    save: Every = NEVER,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Train until `steps` steps are taken in all, `first_step` of them before; returns how many were.

    That is fewer where `stopping` returned true, after saving. Raises Diverged at the report, validation or save after
    a step that was not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in itertools.count(first_step):
        last, stop, moved = step >= steps, stopping(), step > first_step
        if moved and (last or stop or step % report_every == 0):
            report(step, meter.read())
        if moved and not stop and validate.due(step, last):
            meter.require_finite()
            with meter.paused():
                validate.act(step)
        if moved and (save.due(step, last) or (stop and save.every)):
            meter.require_finite()
            save.act(step)
        if last or stop:
            return step

        batch = meter.wait(batches)
        with autocast():
            prediction = network(batch)
            loss = objective(prediction, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        meter.add(step + 1, loss, gradient_norm(parameters))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    raise AssertionError("unreachable: itertools.count does not end")
