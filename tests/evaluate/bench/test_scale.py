"""The estimate's arithmetic against numbers worked out by hand, a cost against a known one, a short list planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from evaluate.bench import cost, scale
from evaluate.bench.cost import cost_of
from evaluate.bench.scale import Corpus, Prices, Rates, estimate
from evaluate.bench.workloads import FrameCost
from tests.forked import FORKSERVER


def test_the_estimate() -> None:
    corpus, prices, on_cpu = Corpus(100_000, 15.0), Prices(0.1, 2.0, 10.0), FrameCost(1.0, 0.012, 0.0)
    found = estimate(corpus, Rates(0.36, 1.8e6, 3, on_cpu, gpu=None), prices)
    # 36,000 CPU seconds; 300,000 frames of 12 ms are 3,600 of them; 180 GB
    assert (found.core_hours, found.teacher_core_hours) == (pytest.approx(10), pytest.approx(1))
    assert found.terabytes == pytest.approx(0.18) and found.dollars == pytest.approx(10 * 0.1 + 1.8)
    # on a GPU 24 ms of it and 6 ms of a core a frame: 2 GPU-hours, and half an hour of a core in place of one
    found = estimate(corpus, Rates(0.36, 1.8e6, 3, on_cpu, FrameCost(0.024, 0.006, 0.0)), prices)
    assert (found.gpu_hours, found.core_hours_beside_gpu) == (pytest.approx(2), pytest.approx(9.5))
    assert found.gpu_dollars == pytest.approx(4 + 0.95 + 1.8) and found.dollars == pytest.approx(1 + 1.8)


def test_the_memory_counted_is_what_was_allocated() -> None:
    nothing, much = (cost_of(eval, f"len(bytearray(b'x') * {size})") for size in (1, 300_000_000))
    assert much.result == 300_000_000
    assert 250e6 < much.own_bytes - nothing.own_bytes < 400e6


@pytest.mark.faults
def test_a_list_is_planned_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost.multiprocessing, "get_context", lambda _: FORKSERVER)
    console = Console(record=True, width=200)
    tmp_path.joinpath("out").mkdir()
    scale.measure_planning(scale.Scale(rows=1_000, out=tmp_path / "out"), console)
    printed = console.export_text()
    assert "1,000" in printed and "planned" in printed and "resumed" in printed
