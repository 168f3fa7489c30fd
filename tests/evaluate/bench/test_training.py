"""The arithmetic of the bench: traffic and operations against numbers worked out on paper, ratios by definition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from evaluate.bench.training import BenchSettings, describe, run, traffic
from shards.cli.command import compose
from shards.format.clip import ClipSpec

CATALOG: Any = SimpleNamespace(clip=ClipSpec())


def settings(*overrides: str) -> BenchSettings:
    return compose(BenchSettings, "bench_train", overrides)


def test_the_traffic_of_soundnet8_is_that_of_its_table() -> None:
    # original.md: steps of conv1 .. conv7 and the pools for 441,000 samples, times Table 1's filters
    steps = [220_501, 27_562, 13_782, 1_722, 862, 432, 217, 54, 28, 15]
    filters = [16, 16, 32, 32, 64, 128, 256, 256, 512, 1024]
    elements = sum(length * width for length, width in zip(steps, filters, strict=True))
    assert traffic(settings("batch=64"), CATALOG) == 5 * 2 * elements * 64
    assert traffic(settings("batch=1"), CATALOG) == pytest.approx(45e6, rel=0.05)
    assert traffic(settings("batch=1", "device=cpu"), CATALOG) == 2 * traffic(settings("batch=1"), CATALOG)


def test_ratios_are_medians_over_rounds_taken_together() -> None:
    printed = describe(
        settings(), {"bare": [1.0, 2.0, 4.0], "loop": [1.02, 2.2, 4.04], "eager": [7, 12, 24]}, 99.0, 10, 10
    )
    assert "loop over bare       1.020 times" in printed
    assert "eager over compiled   6.00 times" in printed
    assert "need 32 clips/s; the reader delivers 99" in printed


def test_a_step_is_counted_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["device=cpu", "compile=false", "batch=1", "steps=1", "rounds=1", "clips=2", "workers=1"]
    words = ["student.layers=[{name: conv1, kernel: 64, stride: 64, filters: 2}]", "student.output.kernel=1722"]
    run(settings(*small, *words, "student.output.stride=1722"))
    printed = capsys.readouterr().out
    steps, outputs = 441_000 // 64, 4
    forward = 2 * (steps * 2 * 64 + outputs * 1722 * 2 * (1000 + 365))
    backward = 2 * forward - 2 * steps * 2 * 64  # nothing is asked of the sound's own gradient
    assert f"a step: {(forward + backward) / 1e9:.3g} GFLOP" in printed
    assert "loop over bare" in printed and "ours over stock" in printed
