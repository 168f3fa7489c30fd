"""Every contestant reads every batch, and ratios are taken round by round."""

from __future__ import annotations

from pathlib import Path

from evaluate.bench.loading import CONTESTANTS, Load, compare, make_shards, report
from shards.loader.catalog import load_catalog


def test_every_contestant_is_timed_in_every_round(tmp_path: Path) -> None:
    make_shards(tmp_path, clips=4, shards=2)
    catalog = load_catalog(str(tmp_path), "train")
    assert catalog.clips == 4 and catalog.samples.tolist() == [441_000] * 4
    rates = compare(Load(catalog, batch=2, batches=2, workers=1), rounds=2)
    assert rates.keys() == CONTESTANTS.keys()
    assert all(len(found) == 2 and min(found) > 0 for found in rates.values())


def test_ratios_are_taken_round_by_round() -> None:
    rates = {"ours": [100.0, 10.0, 50.0], "stock WebDataset": [20.0, 2.0, 25.0], "floor": [150.0, 12.0, 75.0]}
    lines = report(rates).splitlines()
    assert "50 clips/s  (10-100)" in lines[0]
    assert "5.00 times" in lines[3] and "1.50 times" in lines[4]
