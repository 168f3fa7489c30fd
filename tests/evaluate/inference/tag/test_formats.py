"""The three formats say the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from evaluate.inference.tag.formats import FORMATS, clock
from evaluate.inference.tag.tags import SoundTags, Span, Tag, TagReport


@pytest.fixture
def report() -> TagReport:
    whole = {"objects": [Tag("dog, hound", 0.25, 5.0), Tag("cat", 0.125, 2.0)], "my scenes": [Tag("yard", 0.5, 1.5)]}
    part = {"objects": [Tag("cat", 0.75, 12.0)], "my scenes": []}
    files = {
        Path("a, [b]\udcff.wav"): SoundTags(Span(0.0, 7.5, whole), [Span(0.0, 5.0, part), Span(5.0, 7.5, part)]),
        Path("c.wav"): SoundTags(Span(0.0, 1.0, part), []),
        Path("d.wav"): SoundTags(Span(0.0, 9.0, {"objects": [], "my scenes": []}, "silent"), []),
    }
    return TagReport({"file": "best.pt", "sha256": "0", "student": "tiny", "story": ""}, "the mean of all", files)


def test_csv_has_a_row_for_every_tag(report: TagReport) -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](report))))
    assert len(rows) == 3 + 1 + 1 + 1 + 1
    assert list(rows[0].values()) == [
        *(
            "a, [b]\udcff.wav",
            "whole",
            "0.0",
            "7.5",
            "objects",
            "1",
            "dog, hound",
            "0.25",
            "5.0",
            "the mean of all",
            "",
        ),
    ]
    assert list(rows[-1].values()) == ["d.wav", "whole", "0.0", "9.0", *[""] * 5, "the mean of all", "silent"]
    assert [(row["span"], row["begin"], row["rank"], row["name"]) for row in rows[1:5]] == [
        ("whole", "0.0", "2", "cat"),
        ("whole", "0.0", "1", "yard"),
        ("part", "0.0", "1", "cat"),
        ("part", "5.0", "1", "cat"),
    ]


def test_json_is_read_back(report: TagReport) -> None:
    record = json.loads(FORMATS["json"](report))
    assert record["lift_over"] == "the mean of all" and record["checkpoint"]["student"] == "tiny"
    first, second, silent = record["files"]
    assert silent["unnamed"] == "silent" and silent["whole"] == {"objects": [], "my scenes": []}
    assert (first["file"], first["seconds"]) == ("a, [b]\udcff.wav", 7.5) and second["parts"] == []
    assert first["whole"]["objects"][0] == {"name": "dog, hound", "posterior": 0.25, "lift": 5.0}
    assert first["parts"][1] == {
        "begin": 5.0,
        "end": 7.5,
        "tags": {"objects": [{"name": "cat", "posterior": 0.75, "lift": 12.0}], "my scenes": []},
        "unnamed": None,
    }


def test_the_table_names_files_heads_and_what_lift_is_over(report: TagReport) -> None:
    table = FORMATS["table"](report)
    lines = table.splitlines()
    assert lines[0] == "a, [b]?.wav" and "objects" in table and "my scenes" in table
    (row,) = [line for line in lines if "dog" in line]
    assert "hound" not in row and row.split("│")[1:7] == [" whole           ", *row.split("│")[2:7]]
    assert [cell.strip() for cell in row.split("│")[2:8]] == ["dog", "5.0", "25.0", "yard", "1.5", "50.0"]
    assert (
        "(silent)" in table
        and "0:05.0 - 0:07.5" in table
        and lines[-1] == "x: lift, times the mean of all; %: posterior"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.0"), (83.46, "1:23.5"), (59.97, "1:00.0"), (3600, "1:00:00.0"), (7384.5, "2:03:04.5")],
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
