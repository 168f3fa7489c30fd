"""The loop is the plain one: forward, loss, backward, step; and it stops where a number is no number."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.trainer.loop import Every, GradientDescent, train
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
    """Steps of gradient descent by `train`; both take what is theirs of the rest of the arguments."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    of_a_step = {each.name: how.pop(each.name) for each in fields(GradientDescent) if each.name in how}
    descent = GradientDescent(lambda batch: network(batch.values), loss, optimizer, **of_a_step)
    return train(descent, batches(bad_step), Meter(CPU), **how)


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
    assert [step for step, _ in readings] == [1, 4, 5, 8, 10], "early ones, that one need not wait for the first"
    parts = [slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 8), slice(8, 10)]
    for (_, reading), part in zip(readings, parts, strict=True):
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
        keep=Every(5, lambda step: happened.append(f"keep {step}")),
    )
    assert happened == [
        *("report 3", "validate 4", "save 4", "keep 5", "report 6", "validate 6"),
        *("report 7", "validate 7", "keep 7", "save 7"),
    ], "nothing at step 2, where an earlier run ended: what was due then is done"


def test_before_the_first_step_of_all_a_network_is_measured_where_that_is_asked_for() -> None:
    measured: list[int] = []
    fit(line(), steps=3, validate=Every(2, measured.append, first=True))
    fit(line(), steps=4, first_step=2, validate=Every(2, measured.append))
    fit(line(), steps=3, validate=Every(0, measured.append, first=True))
    assert measured == [0, 2, 3, 4]


def test_what_a_signal_broke_off_is_made_up_for_where_the_run_goes_on() -> None:
    happened: list[str] = []
    validate = Every(2, lambda step: happened.append(f"broken off {step}") or True)
    save = Every(3, lambda step: happened.append(f"save {step}"))
    keep = Every(2, lambda step: happened.append(f"keep {step}"))
    assert fit(line(), steps=4, validate=validate, save=save, keep=keep) == 2
    again = Every(2, lambda step: happened.append(f"validate {step}"), first=True)
    assert fit(line(), steps=4, first_step=2, validate=again, save=save, keep=keep) == 4
    assert fit(line(), steps=4, first_step=4, validate=again, save=save, keep=keep) == 4
    assert happened == [
        *("broken off 2", "keep 2", "save 2"),
        *("validate 2", "save 3", "validate 4", "keep 4", "save 4"),
        *("validate 4", "save 4"),
    ]


def test_a_network_that_is_no_number_is_not_kept_either() -> None:
    kept: list[int] = []
    with pytest.raises(Diverged, match="step 2"):
        fit(line(), bad_step=2, steps=20, report_every=20, keep=Every(3, kept.append))
    assert kept == []


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_in_parts_with_a_short_gradient_and_a_rate_of_its_own_is_the_one_by_hand(accumulate: int) -> None:
    network, by_hand = line(), line()
    fit(network, steps=4, accumulate=accumulate, clip_norm=0.5, rate=lambda step: 0.1 / (step + 1))
    weight, bias = by_hand.weight.detach().double()[0], by_hand.bias.detach().double()
    stream = batches()
    for step in range(4):
        parts = list(itertools.islice(stream, accumulate))
        x = torch.cat([part.values for part in parts]).double()
        t = torch.cat([part.target for part in parts])[:, 0].double()
        error = x @ weight + bias - t
        slope, rise = 2 * (error[:, None] * x).mean(dim=0), 2 * error.mean()
        norm = float((slope.square().sum() + rise**2).sqrt())
        rate = 0.1 / (step + 1) * min(1.0, 0.5 / norm)
        assert norm > 0.5 or step
        weight, bias = weight - rate * slope, bias - rate * rise
    torch.testing.assert_close(network.weight.detach()[0].double(), weight, rtol=1e-4, atol=1e-5)


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
    assert done == ["report 1", f"{noticed_by} 4"]


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_found() -> None:
    def root(prediction: Tensor, batch: Labelled) -> Tensor:
        return (0 * prediction).sqrt().mean()  # 0, with an infinite slope

    with pytest.raises(Diverged, match=r"^step 1:"):
        fit(line(), root, steps=3)
