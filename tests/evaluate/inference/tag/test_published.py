"""The published weights on natural recordings: sea, dogs and babies are named, where both are at hand."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from evaluate.inference.embed.run import EmbedSettings
from evaluate.inference.tag.run import TagSettings, run
from shards.cli.command import compose
from train.checkpoint.published import PublishedSettings

EACH = 6  # recordings of a class
NAMES = {
    "sea_waves": {"seashore", "sandbar", "promontory", "ocean", "wave", "beach", "coast"},
    "crying_baby": {"diaper", "bassinet", "crib", "cradle", "nursery", "hospital_room", "childs_room", "playroom"},
    "helicopter": {"warplane", "wing", "heliport", "airfield", "runway"},
}


def test_the_names_are_those_of_the_sound(root: Path, shared: Path, tmp_path: Path) -> None:
    checkpoint, esc10 = root / "data" / "published" / "soundnet8.pt", shared / "data" / "esc10"
    if not checkpoint.is_file() or not esc10.is_dir():
        pytest.skip("needs the published weights (`make published`) and ESC-10")
    with open(esc10 / "meta" / "esc50.csv", newline="") as stream:
        category = {row["filename"]: row["category"] for row in csv.DictReader(stream)}
    chosen = [
        esc10 / "audio" / name for wanted in NAMES for name in [n for n in category if category[n] == wanted][:EACH]
    ]
    run(TagSettings(chosen, checkpoint, over_time=False, out=tmp_path / "tags.csv"))
    hits: Counter[tuple[str, str]] = Counter()  # (class of the names, class of the recording): tags
    with open(tmp_path / "tags.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            for wanted, names in NAMES.items():
                hits[wanted, category[Path(row["file"]).name]] += row["name"].partition(",")[0] in names
    for wanted in NAMES:
        others = sum(hits[wanted, other] for other in NAMES if other != wanted)
        assert 2 * hits[wanted, wanted] >= EACH and hits[wanted, wanted] > 5 * others, hits


@pytest.mark.parametrize(("settings", "config"), [(TagSettings, "tag"), (EmbedSettings, "embed")])
def test_tag_and_embed_take_them_where_nothing_else_is_said(
    settings: type[TagSettings | EmbedSettings], config: str
) -> None:
    assert compose(settings, config, ["files=a.wav"]).checkpoint == PublishedSettings().out
