"""The loop is the plain one: forward, loss, backward, step; and it stops where a number is no number."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.trainer.loop import Every, train
from train.trainer.meter import Diverged, Meter, Reading

CPU = torch.device("cpu")
Objective = Callable[[Tensor, "Labelled"], Tensor]


@dataclass
class Labelled:
    """Anything can be a batch: here sums that a line shall learn, as evaluation's clips with their classes."""

    values: Tensor
    target: Tensor


def batches(bad_step: int | None = None) -> itertools.starmap[Labelled]:
    def batch(index: int) -> Labelled:
        values = torch.randn(6, 3, generator=torch.Generator().manual_seed(index))
        target = values.sum(dim=1, keepdim=True)
        return Labelled(values, target * (float("inf") if index + 1 == bad_step else 1.0))

    return itertools.starmap(batch, ((index,) for index in itertools.count()))


def line() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 1)


def mean_squares(prediction: Tensor, batch: Labelled) -> Tensor:
    return (prediction - batch.target).square().mean()


def fit(network: nn.Linear, loss: Objective = mean_squares, bad_step: int | None = None, **how: Any) -> int:
    """Steps of gradient descent by `train`, which takes the rest of the arguments."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return train(lambda batch: network(batch.values), batches(bad_step), loss, optimizer, Meter(CPU), **how)


def test_the_loop_is_gradient_descent_by_hand() -> None:
    network, by_hand = line(), line()
    readings: list[tuple[int, Reading]] = []
    done = fit(network, steps=10, report=lambda *reported: readings.append(reported), report_every=4)
    losses, norms = [], []
    weight, bias = by_hand.weight.detach().double()[0], by_hand.bias.detach().double()
    for batch in itertools.islice(batches(), 10):
        x, t = batch.values.double(), batch.target[:, 0].double()
        error = x @ weight + bias - t
        losses.append(float(error.square().mean()))
        slope, rise = 2 * (error[:, None] * x).mean(dim=0), 2 * error.mean()
        norms.append(float((slope.square().sum() + rise**2).sqrt()))
        weight, bias = weight - 0.1 * slope, bias - 0.1 * rise
    assert done == 10
    torch.testing.assert_close(network.weight.detach()[0].double(), weight, rtol=1e-5, atol=1e-6)
    assert [step for step, _ in readings] == [4, 8, 10]
    for (_, reading), part in zip(readings, [slice(0, 4), slice(4, 8), slice(8, 10)], strict=True):
        count = len(losses[part])
        assert reading.steps == count
        assert reading.loss == pytest.approx(sum(losses[part]) / count, rel=1e-5)
        assert reading.gradient_norm == pytest.approx(sum(norms[part]) / count, rel=1e-5)
        assert 0 <= reading.waited <= 1


def test_now_and_then_in_order_and_after_the_last_step() -> None:
    happened: list[str] = []
    fit(
        line(),
        steps=7,
        first_step=2,
        report=lambda step, _: happened.append(f"report {step}"),
        report_every=3,
        validate=Every(2, lambda step: happened.append(f"validate {step}")),
        save=Every(4, lambda step: happened.append(f"save {step}")),
    )
    assert happened == [
        *("report 3", "validate 4", "save 4", "report 6", "validate 6"),
        *("report 7", "validate 7", "save 7"),
    ], "nothing at step 2, where an earlier run ended: what was due then is done"


def test_stopping_saves_and_ends() -> None:
    happened: list[str] = []
    answers = iter([False, False, False, True])
    done = fit(
        line(),
        steps=100,
        validate=Every(3, lambda step: happened.append(f"validate {step}")),
        save=Every(50, lambda step: happened.append(f"save {step}")),
        stopping=lambda: next(answers),
    )
    assert done == 3 and happened == ["save 3"], "no time for a validation when the machine is taken away"


@pytest.mark.parametrize("noticed_by", ["report", "validate", "save"])
def test_the_first_step_that_is_not_finite_is_named_and_nothing_is_done_after_it(noticed_by: str) -> None:
    done: list[str] = []
    every = {"report": 50, "validate": 50, "save": 50} | {noticed_by: 4}
    with pytest.raises(Diverged, match=r"^step 5: the loss or its gradient is not finite"):
        fit(
            line(),
            bad_step=5,
            steps=100,
            report=lambda step, _: done.append(f"report {step}"),
            report_every=every["report"],
            validate=Every(every["validate"], lambda step: done.append(f"validate {step}")),
            save=Every(every["save"], lambda step: done.append(f"save {step}")),
        )
    assert done == [f"{noticed_by} 4"]


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_found() -> None:
    def root(prediction: Tensor, batch: Labelled) -> Tensor:
        return (0 * prediction).sqrt().mean()  # 0, with an infinite slope

    with pytest.raises(Diverged, match=r"^step 1:"):
        fit(line(), root, steps=3)
