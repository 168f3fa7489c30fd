"""Side by side: the same results in the same order, one torch thread each, as many as are free, and an end for all."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from train.device.threads import AHEAD, available_threads, side_by_side


@pytest.fixture
def three() -> Iterator[None]:
    """torch as it is on three cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three")
def test_results_are_in_order_and_as_many_at_once_as_torch_has_threads() -> None:
    together = threading.Barrier(3, timeout=60)  # passed by three at once, or not at all

    def work(item: int) -> tuple[int, int, int]:
        together.wait()
        return item, torch.get_num_threads(), available_threads()

    assert available_threads() == 3
    assert list(side_by_side(work, range(9))) == [(item, 1, 1) for item in range(9)]
    assert torch.get_num_threads() == 3
    found: list[int] = []
    another = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    another.start()
    another.join()
    assert found == [3]


@pytest.mark.usefixtures("three")
def test_who_makes_the_items_has_one_torch_thread_meanwhile() -> None:
    """Five minutes of sound were cut into stretches beside two that compute: 2.4 CPU seconds, of which 2.1 spinning."""
    items = (torch.get_num_threads() for _ in range(5))
    assert [*side_by_side(lambda threads: threads, items, threads=2), torch.get_num_threads()] == [1] * 5 + [3]


def test_one_thread_is_the_caller_s_own() -> None:
    caller = threading.get_ident()
    assert list(side_by_side(lambda _: threading.get_ident(), iter("ab"), threads=1)) == [caller] * 2
    assert list(side_by_side(lambda _: threading.get_ident(), ["a"], threads=8)) == [caller]
    assert list(side_by_side(lambda _: threading.get_ident(), [], threads=8)) == []


def test_inside_a_thread_work_is_done_by_that_thread() -> None:
    def outer(_: int) -> set[int]:
        return {threading.get_ident(), *side_by_side(lambda _: threading.get_ident(), range(5))}

    assert {len(found) for found in side_by_side(outer, range(4), threads=2)} == {1}


def test_of_an_iterator_no_more_is_taken_than_is_held() -> None:
    taken: list[int] = []
    results = side_by_side(lambda item: item, (taken.append(item) or item for item in range(100)), threads=2)
    assert next(results) == 0 and len(taken) == 2 * AHEAD
    assert next(results) == 1 and len(taken) == 2 * AHEAD + 1
    assert list(results) == list(range(2, 100))


def test_a_fault_comes_in_its_place_and_ends_the_others_at_their_next_item() -> None:
    begun, released = threading.Event(), threading.Event()
    done: list[int] = []

    def inner(item: int) -> None:
        begun.set()
        assert released.wait(60)
        done.append(item)

    def outer(item: int) -> int:
        if item == 2:
            assert begun.wait(60)
            threading.Timer(0.2, released.set).start()  # while the pool is being ended
            raise KeyError("two")
        if item == 3:
            list(side_by_side(inner, range(1000)))
        return item

    results = side_by_side(outer, range(9), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert len(done) < 1000
