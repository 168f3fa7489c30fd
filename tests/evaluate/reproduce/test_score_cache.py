"""Scores are looked up by what decides them: the data's bytes, the weights and the settings, and by no place."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.probe.run import EvaluateSettings
from evaluate.probe.scores import Scores
from evaluate.reproduce import score_cache
from evaluate.reproduce.score_cache import cached_scores
from train.model.layers import StudentSpec


def test_once_for_each_combination(
    esc_spec: BenchmarkSpec, esc_root: Path, tiny: StudentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[EvaluateSettings] = []

    def evaluate(settings: EvaluateSettings) -> Scores:
        evaluated.append(settings)
        return Scores("esc-tiny", str(len(evaluated)), [], None, [], [])

    monkeypatch.setattr(score_cache, "evaluate", evaluate)
    settings = EvaluateSettings(esc_spec, esc_root, tiny, baselines=["mfcc"], C=0.01, cache=tmp_path / "cache")
    moved = replace(settings, root=shutil.copytree(esc_root, tmp_path / "moved"), out=tmp_path / "out")
    first = cached_scores(settings)
    assert cached_scores(settings) == cached_scores(moved) == first and len(evaluated) == 1
    assert cached_scores(replace(settings, C=0.1)).data_sha256 == "2"
    with open(moved.root / "audio" / "1-0-A.wav", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    assert cached_scores(moved).data_sha256 == "3" and cached_scores(settings) == first
