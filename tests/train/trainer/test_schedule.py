"""Learning rates, beside those of torch's own schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.trainer.schedule import learning_rate


def test_the_learning_rates_are_those_of_torchs_own_schedules() -> None:
    def torchs(cosine: bool) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
        last: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        if cosine:
            last = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, last], milestones=[4])
        found = []
        for _ in range(20):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    for cosine in (False, True):
        ours = [learning_rate(step, lr=0.3, steps=20, warmup=4, cosine=cosine) for step in range(20)]
        assert ours == pytest.approx(torchs(cosine), abs=1e-9)
