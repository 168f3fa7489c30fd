"""The bench runs end to end on a film of a few seconds and prints a ratio for each claim that can be measured."""

from __future__ import annotations

import sys

import pytest

from evaluate.bench import decoding as bench
from evaluate.bench import readers


def test_every_reader_is_measured(tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2")
    if readers.ffmpeg_binary() is None:
        pytest.skip("needs ffmpeg or imageio-ffmpeg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "lacks", lambda reader: "a test" if reader is readers.torchcodec else None)
    monkeypatch.setattr(sys, "argv", ["bench", "heights=64", "seconds=11", "rounds=1"])
    bench.main()
    printed = capsys.readouterr().out
    assert "64p-11s.mp4: exact 0." in printed
    assert "not compared with torchcodec: it needs a test" in printed
    assert printed.count("met") + printed.count("missed") >= 4


def test_a_ratio_is_the_median_over_rounds_of_the_others_time_over_ours(tmp_path):
    claim = bench.Claim(readers.exact, readers.peers)
    rounds = [{readers.exact: ours, readers.peers: theirs} for ours, theirs in [(1, 2), (2, 8), (1, 30)]]
    assert bench.ratios(claim, {tmp_path: rounds}) == [4]


def test_an_unknown_setting_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "video=a"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "no such setting: video" in capsys.readouterr().err
