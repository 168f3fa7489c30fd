"""The bench of the executor: its settings compose, and what it counts is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate.bench import executor
from evaluate.bench.executor import ExecutorBench, labelled
from evaluate.bench.labelling import write_network
from evaluate.bench.video.films import render_film
from evaluate.bench.workloads import write_copies
from shards.cli.command import compose
from tests.forked import FORKSERVER


@pytest.mark.faults  # slow: stage one
def test_a_run_is_counted_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "get_context", lambda _: FORKSERVER)
    assert compose(ExecutorBench, "bench_executor", []) == ExecutorBench()
    render_film(tmp_path / "film.mp4", 96, 6)
    write_copies(tmp_path / "film.mp4", tmp_path / "videos", 3)
    write_network(tmp_path / "network")
    found = labelled(tmp_path / "videos", tmp_path / "shards", tmp_path / "network", "flac", 1, True)
    assert found.clips == 3  # one of 5 s each, and a tail
    assert found.own_seconds > 0 and found.child_seconds > 0 and 0 <= found.waiting_share <= 1
