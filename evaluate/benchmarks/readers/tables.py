"""ESC-50's repository (with ESC-10 in it) and UrbanSound8K: a table with a row for each file."""

from __future__ import annotations

from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.readers.entry import Entry, read_rows, remedy


def read_esc(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """The ESC-50 repository: meta/esc50.csv (its src_file is the group) and audio/, in any format that FFmpeg reads."""
    rows = read_rows(root / "meta" / "esc50.csv", ("filename", "fold", "category"), remedy(spec, root))
    chosen = [row for row in rows if not spec.classes or row["category"] in spec.classes]
    return [
        Entry(
            root / "audio" / row["filename"],
            f"audio/{row['filename']}",
            row["category"],
            row["fold"],
            row.get("src_file", ""),
        )
        for row in chosen
    ]


def read_urbansound8k(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """UrbanSound8K: metadata/UrbanSound8K.csv (fsID, the recording a slice is of, is its group) and audio/fold1/."""
    columns = ("slice_file_name", "fsID", "fold", "class")
    rows = read_rows(root / "metadata" / "UrbanSound8K.csv", columns, remedy(spec, root))
    names = [f"audio/fold{row['fold']}/{row['slice_file_name']}" for row in rows]
    return [
        Entry(root / name, name, row["class"], row["fold"], row["fsID"]) for name, row in zip(names, rows, strict=True)
    ]
