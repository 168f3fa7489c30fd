"""The bench runs end to end on a film of a few seconds and prints a row for each claim, measured or not."""

from __future__ import annotations

import sys

import pytest

from evaluate.bench.video import decoding as bench
from evaluate.bench.video import readers


def test_every_claim_has_its_row(tmp_path, monkeypatch, capsys):
    if readers.ffmpeg_binary() is None:
        pytest.skip("needs ffmpeg or imageio-ffmpeg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(readers.NEEDS, readers.decord, ("no_such_decord", "AudioReader", ["decord2", "decord"]))
    monkeypatch.setattr(sys, "argv", ["bench", "heights=64", "seconds=11", "rounds=1"])
    bench.main()
    printed = capsys.readouterr().out
    assert "64p-11s.mp4: exact 0." in printed and "cannot read" not in printed
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(bench.CLAIMS)
    by_peer = {row[1].partition(" (")[0]: row[2] for row in rows if row[0] == "| exact"}
    assert by_peer["decord"] == "needs decord2 or decord (No module named 'no_such_decord')"
    missing = {bench.name(reader) for reader in readers.NEEDS if readers.lacks(reader)}
    assert {peer for peer, median in by_peer.items() if median.startswith("needs")} == missing
    assert all(float(median) > 0 for peer, median in by_peer.items() if peer not in missing)


def test_a_film_that_one_reader_cannot_read_is_read_by_the_others(tmp_path, monkeypatch, capsys):
    (tmp_path / "film.mp4").touch()

    def fails(path):
        """Fails."""
        raise ValueError("no\nway")

    def reads(path):
        """Reads."""
        sum(range(100_000))

    monkeypatch.setattr(readers, "exact", reads)
    monkeypatch.setattr(bench, "CLAIMS", [bench.Claim(reads, fails), bench.Claim(reads, readers.exact)])
    monkeypatch.setattr(sys, "argv", ["bench", f"films={tmp_path}", "rounds=1"])
    bench.main()
    printed = capsys.readouterr().out
    assert "fails cannot read film.mp4: no\n" in printed
    assert "| reads | fails | read no film |" in printed and "| reads | reads | 1.00 | 1.00, 1.00 | 1 |" in printed


def test_a_ratio_is_the_median_over_rounds_of_the_others_time_over_ours(tmp_path):
    claim = bench.Claim(readers.exact, readers.peers)
    rounds = [{readers.exact: ours, readers.peers: theirs} for ours, theirs in [(1, 2), (2, 8), (1, 30)]]
    assert bench.ratios(claim, {tmp_path: rounds, tmp_path / "other": [{readers.exact: 1}]}) == [4]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["film=a"], "no such setting: film"), (["films=/nowhere"], "films=/nowhere holds no file")],
)
def test_what_cannot_be_timed_is_refused(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit):
        bench.main()
    assert said in capsys.readouterr().err
