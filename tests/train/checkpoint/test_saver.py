"""What is written is what was there when it was asked for, and what kept it from being written is not lost."""

from __future__ import annotations

import threading

import pytest
import torch

from train.checkpoint.saver import Saver, copied


def test_a_copy_stays_while_training_goes_on() -> None:
    weight = torch.ones(3, requires_grad=True)
    state = {"weight": weight, "groups": [{"step": torch.zeros(()), "lr": 0.1}]}
    before = copied(state)
    with torch.no_grad():
        weight += 1
        state["groups"][0]["step"] += 1  # type: ignore[index]
    assert before["weight"].tolist() == [1, 1, 1] and not before["weight"].requires_grad
    assert before["groups"][0]["step"] == 0 and before["groups"][0]["lr"] == 0.1


def test_files_are_written_beside_the_work_and_in_order() -> None:
    written, may_write = [], threading.Event()

    def first() -> None:
        may_write.wait()
        written.append("first")

    with Saver(threading.Lock()) as saver:
        saver.submit(first)
        assert written == []
        may_write.set()
        saver.submit(lambda: written.append("second"))
    assert written == ["first", "second"]


@pytest.mark.parametrize("later", [True, False])
def test_what_failed_is_raised_by_the_next_or_at_the_end(later: bool) -> None:
    def full() -> None:
        raise OSError("no space")

    written: list[str] = []
    with pytest.raises(OSError, match="no space"), Saver(threading.Lock()) as saver:
        saver.submit(full)
        if later:
            saver.submit(lambda: written.append("never"))
    assert written == []
