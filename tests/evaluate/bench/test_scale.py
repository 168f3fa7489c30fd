"""The estimate's arithmetic against numbers worked out by hand, a cost against a known one, a short list planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from evaluate.bench import cost, scale
from evaluate.bench.cost import cost_of
from evaluate.bench.scale import Corpus, Prices, Rates, estimate
from tests.forked import FORKSERVER


def test_the_estimate() -> None:
    rates = Rates(0.01, 0.02, frames_per_second=0.2, bytes_per_second=50_000.0, on_gpu=False)
    found = estimate(Corpus(1000, 3.6e6), rates, Prices(0.1, 2.0, 10.0))
    # 36,000 CPU seconds of decoding; 720,000 frames of 20 ms; 180 GB
    assert found.decode_core_hours == pytest.approx(10) and found.teacher_core_hours == pytest.approx(4)
    assert found.teacher_gpu_hours == 0 and found.terabytes == pytest.approx(0.18)
    assert found.dollars == pytest.approx(14 * 0.1 + 1.8)
    on_gpu = estimate(Corpus(1000, 3.6e6), Rates(0.01, 0.02, 0.2, 50_000.0, True), Prices(0.1, 2.0, 10.0))
    assert (on_gpu.core_hours, on_gpu.teacher_gpu_hours) == (pytest.approx(10), pytest.approx(4))
    assert on_gpu.dollars == pytest.approx(1 + 8 + 1.8)


def test_the_memory_counted_is_what_was_allocated() -> None:
    nothing, much = (cost_of(eval, f"len(bytearray(b'x') * {size})") for size in (1, 300_000_000))
    assert much.result == 300_000_000
    assert 250e6 < much.own_bytes - nothing.own_bytes < 400e6


def test_a_list_is_planned_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost.multiprocessing, "get_context", lambda _: FORKSERVER)
    console = Console(record=True, width=200)
    tmp_path.joinpath("out").mkdir()
    scale.measure_planning(scale.Scale(rows=1_000, out=tmp_path / "out"), console)
    printed = console.export_text()
    assert "1,000" in printed and "planned" in printed and "resumed" in printed
