"""A run that goes on without what is damaged names the clips, once, and counts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.loader.batch import Skip
from shards.loader.catalog import load_catalog
from shards.loader.streaming import Streaming
from train.data.skips import Skips
from train.model.layers import StudentSpec
from train.run import run
from train.settings import TrainSettings

MakeShards = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def settings(tmp_path: Path, spec: StudentSpec, make_shards: MakeShards) -> TrainSettings:
    folder = make_shards(tmp_path / "shards", {"train-000000": 8, "train-000001": 8, "validation-000000": 5})
    for split, clip in (("train", 3), ("validation", 2)):
        catalog = load_catalog(str(folder), split)
        tar = Path(catalog.sounds[0].location)
        data = bytearray(tar.read_bytes())
        data[int(catalog.sound_places[clip].sum()) - 8] ^= 0x40
        tar.write_bytes(data)
    settings = TrainSettings(shards=str(folder), student=spec, run=tmp_path / "run", device="cpu", compile=False)
    skip = Streaming(on_bad_shard="skip")
    return replace(settings, batch=8, steps=12, log_every=3, validate_every=6, save_every=6, streaming=skip)


def test_skipped_clips_are_named_listed_and_counted(
    settings: TrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    assert settings.run is not None
    rows = [json.loads(line) for line in (settings.run / "skipped-0.jsonl").read_text().splitlines()]
    assert {(row["split"], row["shard"], row["key"]) for row in rows} == {
        ("train", "train-000000", "train-000000%2Emp4-00003"),
        ("validation", "validation-000000", "validation-000000%2Emp4-00002"),
    }
    assert all("checksum" in row["reason"] and row["shard"] in row["reason"] for row in rows)
    logged = capsys.readouterr().err
    assert logged.count("going on without what is damaged in train-000000") == 1
    assert "2 clips skipped" in logged
    noted = [json.loads(line) for line in (settings.run / "metrics.jsonl").read_text().splitlines()]
    assert noted[-2]["skipped"] == 2
    found = json.loads((settings.run / "validation.json").read_text())
    assert found["clips"] == found["videos"][0]["clips"] == 4


def test_stop_is_what_happens_otherwise(settings: TrainSettings) -> None:
    with pytest.raises(UserError, match=r"train-000000\.tar: train-000000%2Emp4-00003\.wav: its checksum"):
        run(replace(settings, streaming=Streaming(), validate_every=0))
    run(settings)  # and the same run may go on without it


def test_no_held_out_clip_left_is_an_error(settings: TrainSettings) -> None:
    (Path(settings.shards) / "validation-000000.tar").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 5 held-out clips was read"):
        run(settings)


def test_a_line_cut_short_by_a_kill_is_written_anew(settings: TrainSettings, tmp_path: Path) -> None:
    catalog = load_catalog(settings.shards, "train")
    path, logged = tmp_path / "skipped-0.jsonl", list[str]()
    Skips(path, logged.append).note(catalog, [Skip(1, 3, "bad"), Skip(0, 9, "worse")])
    whole = path.read_text()
    path.write_text(whole[:-20])
    again = Skips(path, logged.append)
    again.note(catalog, [Skip(0, 3, "bad"), Skip(1, 9, "worse")])
    assert path.read_text() == whole and len(again) == 2
    assert len(logged) == 4 and logged[0].startswith("going on without what is damaged in train-000001")
