"""How long `make reproduce` says it will take: by a formula over what is not kept, and by a clock that tests set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording
from evaluate.probe.run import EvaluateSettings
from evaluate.reproduce.estimate import FIT, FITTED, FLOPS, HEAR, READ, Work, in_words, scores_of, slowness, work_of
from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.paper import Column, Row, Table
from evaluate.reproduce.run import run
from evaluate.reproduce.settings import ReproduceSettings
from shards.cli.command import compose
from train.model.layers import StudentSpec
from train.model.student import Student

SOUNDNET8 = compose(StudentSpec, "student/soundnet8")


def benchmark_of(classes: int = 10, per_class: int = 8, folds: int = 5, seconds: float = 10.0) -> Benchmark:
    """As ESC-10 lies, of files that are never read."""
    spec = BenchmarkSpec("esc", "esc", seconds, 1.0)
    recordings = tuple(
        Recording(Path("x"), f"{fold}-{label}-{take}", label, str(fold))
        for fold in range(folds)
        for label in range(classes)
        for take in range(per_class)
    )
    return Benchmark(spec, tuple(map(str, range(classes))), recordings, tuple(map(str, range(folds))))


def probe_of(**changes: object) -> EvaluateSettings:
    given: dict[str, object] = {"checkpoint": Path("a.pt"), "C": 0.01, **changes}
    return EvaluateSettings(benchmark_of().spec, Path("."), SOUNDNET8, **given)  # type: ignore[arg-type]


def test_esc10_costs_what_it_cost() -> None:
    """docs/results.md, two idle cores, some 3 s of start-up included: 12 s, with cross-validation 30, six layers 51."""

    def seconds(**changes: object) -> float:
        return 3 + work_of(probe_of(**changes), benchmark_of()).seconds(slower=1, threads=2)

    assert seconds() == pytest.approx(12, rel=0.25)
    assert seconds(C=None) == pytest.approx(30, rel=0.25)
    others = work_of(probe_of(checkpoint=None, baselines=["mfcc", "forest"], layers=[]), benchmark_of())
    six = seconds(layers=["conv4", "conv5", "pool5", "conv6", "conv7", "conv8"])
    assert six + others.seconds(slower=1, threads=2) - 400 * READ == pytest.approx(51, rel=0.25)  # read once


@pytest.mark.parametrize(("C", "factor", "minutes"), [(0.01, 12, 2.3), (None, 20, 10)])
def test_esc50_is_a_matter_of_minutes_a_layer(C: float | None, factor: float, minutes: float) -> None:  # noqa: N803
    """docs/results.md: by the formula, which was never checked on ESC-50 itself."""
    ten, fifty = (work_of(probe_of(C=C), benchmark_of(classes)).seconds(slower=1, threads=2) for classes in (10, 50))
    assert fifty / ten == pytest.approx(factor, rel=0.03) and fifty / 60 == pytest.approx(minutes, rel=0.03)


def test_more_recordings_layers_seeds_and_values_of_c_cost_more_by_a_formula() -> None:
    esc = benchmark_of()
    pool5 = work_of(probe_of(), esc)
    fit = FIT["pool5"] * 1600 * 10 * (9 * 22_050 / 8192 + 1) / FITTED
    assert pool5.alone == pytest.approx(400 * READ + fit) and pool5.shared == pytest.approx(400 * HEAR)

    twice = work_of(probe_of(), benchmark_of(per_class=16))
    assert (twice.alone, twice.shared) == pytest.approx((2 * pool5.alone, 2 * pool5.shared))
    classes = work_of(probe_of(), benchmark_of(classes=20, per_class=4))  # the same recordings, twice the planes
    assert classes.alone == pytest.approx(pool5.alone + fit) and classes.shared == pool5.shared

    layers = work_of(probe_of(layers=["pool5", "conv6"]), esc)
    assert layers.alone == pytest.approx(pool5.alone + fit * FIT["conv6"] / FIT["pool5"])
    assert layers.shared == pool5.shared  # heard once
    assert scores_of([(probe_of(layers=["pool5", "conv6"]), esc), (probe_of(), esc)]) == 3

    # Ten pairs of five folds are left out together, and each is tried with each C, on three fifths of the recordings.
    searched = work_of(probe_of(C=None, grid=[0.1, 1.0]), esc)
    assert searched.shared - pool5.shared == pytest.approx(2 * 10 * (3 / 5) * fit / (5 * 4 / 5))
    assert searched.alone == pool5.alone

    # Each of five networks hears all recordings, and 100 of those that it is normalised on.
    random = work_of(probe_of(checkpoint=None, baselines=["random"], seeds=1), esc)
    assert random.shared == pytest.approx(5 * 500 * HEAR) and random.alone == pytest.approx(pool5.alone)
    three = work_of(probe_of(checkpoint=None, baselines=["random"], seeds=3), esc)
    assert three.shared == pytest.approx(3 * random.shared) and three.alone == pytest.approx(pool5.alone + 2 * fit)
    both = work_of(probe_of(checkpoint=None, baselines=["random"], seeds=1, C=None, grid=[1.0]), esc)
    assert both.shared - random.shared == pytest.approx(2 * 10 * (3 / 5) * fit / (5 * 4 / 5))  # of no two folds


def test_cores_share_what_they_can_and_a_slow_one_takes_longer() -> None:
    assert Work(alone=3, shared=8).seconds(slower=1, threads=4) == 5
    assert Work(alone=3, shared=8).seconds(slower=1) == 11  # of CPU time, however many cores share it
    assert Work(alone=3, shared=8).seconds(slower=2.5, threads=1) == 27.5


def test_the_speed_is_that_of_passes_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each pass moves on by 0.04 s, the first by 9."""
    network = Student(SOUNDNET8, {"objects": 1000, "scenes": 401}, sample_rate=22_050).eval()
    passes: list[float] = []

    def run_layers(network: Student, sound: NDArray[np.int16], layers: list[str]) -> None:
        assert sound.shape == (1, 220_500) and layers == ["conv8"] and torch.get_num_threads() == 1
        passes.append(0.04 if passes else 9.0)

    monkeypatch.setattr("evaluate.reproduce.estimate.run_layers", run_layers)
    threads, here = torch.get_num_threads(), FLOPS / network.flops(220_500)
    assert here == pytest.approx(1 / 0.013, rel=0.01)  # passes a second, where the costs were measured
    assert slowness(network, lambda: sum(passes)) == pytest.approx(0.04 * here)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 second"),
        (40.2, "40 seconds"),
        (119.4, "119 seconds"),
        (119.6, "2 minutes"),
        (840, "14 minutes"),
        (5399, "90 minutes"),
        (5400, "2 hours"),
    ],
)
def test_times_are_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_what_is_kept_does_not_count(
    esc_spec: BenchmarkSpec,
    esc_root: Path,
    tiny: StudentSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first line of each run: rows twice in a table count once, a row whose run is missing not at all."""
    untrained, trained = Row("untrained", (None,), "random", layer="conv2"), Row("ours", (92.2,), "experiment", "row")
    rows = (untrained, replace(untrained, title="again"), Row("hand-crafted", (67.5,), "mfcc"), trained)
    monkeypatch.setattr("evaluate.reproduce.run.TABLES", tables := (Table(3, "", (Column("", "esc10"),), rows),))
    monkeypatch.setattr("evaluate.reproduce.estimate.TABLES", tables)
    monkeypatch.setattr("evaluate.reproduce.estimate.slowness", lambda network: 1e6)
    monkeypatch.setattr("evaluate.reproduce.estimate.available_threads", lambda: 8)
    experiments = Experiments({"esc10": esc_spec}, {}, {})
    settings = ReproduceSettings(tiny, None, {"esc10": esc_root}, C=0.01, seeds=2, cache=tmp_path / "cache")  # type: ignore[arg-type]
    settings.runs, settings.out, settings.tables, settings.figures = tmp_path / "runs", tmp_path / "out", [3], []

    def said(**changes: object) -> str:
        run(replace(settings, **changes), experiments)  # type: ignore[arg-type]
        return capsys.readouterr().out.splitlines()[0]

    first = said()
    counted = ": 3 scores of 18 recordings, 0 kept from before (by the speed of a forward pass here"
    cpu, clock = map(int, re.findall(r"(\d+) hours (?:of CPU time|by the clock)", first))
    assert cpu > clock and f" by the clock if nothing else runs on 8 cores{counted}" in first
    assert said() == "no score to compute, 3 kept from before"
    assert ": 1 score of 18 recordings, 3 kept from before" in said(seeds=3)
    assert ": 4 scores of 18 recordings, 0 kept from before" in said(seeds=3, C=0.1)
