"""Every contestant reads every batch, and ratios are taken round by round."""

from __future__ import annotations

from pathlib import Path

from evaluate.bench.loading import CONTESTANTS, Load, Speed, compare, make_shards, report
from shards.loader.catalog import load_catalog


def test_every_contestant_is_timed_in_every_round(tmp_path: Path) -> None:
    make_shards(tmp_path, clips=4, shards=2)
    catalog = load_catalog(str(tmp_path), "train")
    assert catalog.clips == 4 and catalog.samples.tolist() == [441_000] * 4
    speeds = compare(Load(catalog, batch=2, batches=2, workers=1), rounds=2)
    assert speeds.keys() == CONTESTANTS.keys()
    assert all(len(found) == 2 and all(speed.clips_per_second > 0 for speed in found) for found in speeds.values())


def test_ratios_are_taken_round_by_round() -> None:
    speeds = {
        "ours": [Speed(100.0, 3.0), Speed(10.0, 9.0), Speed(50.0, 2.0)],
        "stock WebDataset": [Speed(20.0, 1.0), Speed(2.0, 1.0), Speed(25.0, 1.0)],
        "floor": [Speed(150.0, 2.0), Speed(12.0, 6.0), Speed(75.0, 1.0)],
    }
    lines = report(speeds).splitlines()
    assert "50 clips/s  (10-100)" in lines[0]
    assert "5.00 times" in lines[3] and "1.50 times" in lines[4]
