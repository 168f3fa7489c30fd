"""A user's own sounds."""

from __future__ import annotations

from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.readers.entry import Entry, below, folders_in, read_rows, sounds_in


def read_folder(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """A user's own sounds: a folder per class, or a CSV file with path, label and perhaps fold or split, and group.

    In a class's folder, each sub-folder is a group: takes of one source.
    """
    if root.is_dir():
        entries = []
        for folder in folders_in(root):
            places = [(path, "") for path in sounds_in(folder)]
            places += [(path, group.name) for group in folders_in(folder) for path in below(group)]
            entries += [
                Entry(path, path.relative_to(root).as_posix(), folder.name, "", group) for path, group in places
            ]
        return entries
    rows = read_rows(root, ("path", "label"), "Give a folder with a folder per class, or such a CSV file")
    return [
        Entry(
            root.parent / row["path"],
            row["path"],
            row["label"],
            row.get("fold") or row.get("split") or "",
            row.get("group") or "",
        )
        for row in rows
    ]
