"""What a run measures as it goes: sums that stay on the device until they are logged, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from shards.errors import UserError

B = TypeVar("B")


class Diverged(UserError):
    """A loss or a gradient is not finite any more; the message names the step."""


@dataclass(frozen=True)
class Reading:
    """Means over the steps since the reading before. `waited` is the share of the time spent on waiting for data."""

    loss: float
    gradient_norm: float
    steps: int
    seconds: float
    waited: float


class Meter:
    """Nothing here makes the host wait for the device but `read` and `require_finite`.

    `average` is what ranks do to a value that each has its own of.
    """

    def __init__(self, device: torch.device, average: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        self._average = average
        self._sums = torch.zeros(2, device=device)  # loss, gradient norm
        self._first_bad = torch.full((), -1, device=device)  # the first step that was not finite
        self._steps = 0
        self._began, self._waited = time.perf_counter(), 0.0

    def wait(self, batches: Iterator[B]) -> B:
        """The next batch; the time until it is here counts as waiting."""
        began = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - began
        return batch

    def add(self, step: int, loss: Tensor, gradient_norm: Tensor) -> None:
        """Count one step. `step` is its number, from 1 on."""
        measured = torch.stack([loss.detach().float(), gradient_norm.float()])
        fine = measured.isfinite().all() | (self._first_bad >= 0)
        self._first_bad = torch.where(fine, self._first_bad, step)
        self._sums += measured
        self._steps += 1

    def read(self) -> Reading:
        """The means since the last reading; starts anew. Raises Diverged."""
        self.require_finite()
        loss, gradient_norm = (self._average(self._sums) / max(self._steps, 1)).tolist()
        now = time.perf_counter()
        seconds = max(now - self._began, 1e-9)
        reading = Reading(loss, gradient_norm, self._steps, seconds, self._waited / seconds)
        self._sums.zero_()
        self._steps, self._waited, self._began = 0, 0.0, now
        return reading

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here, as for validation, is not counted."""
        start = time.perf_counter()
        yield
        self._began += time.perf_counter() - start

    def require_finite(self) -> None:
        """Raises Diverged, naming the first step whose loss or gradient was infinite or no number."""
        step = int(self._first_bad.item())
        if step >= 0:
            raise Diverged(
                f"step {step}: the loss or its gradient is not finite. Training stops here and writes no checkpoint "
                "any more; those in the run's folder are from before. A lower lr=... in another run=... may mend it"
            )


def gradient_norm(parameters: list[torch.nn.Parameter]) -> Tensor:
    """The length of all gradients taken as one vector, a scalar on their device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
