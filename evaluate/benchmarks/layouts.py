"""How benchmarks lie on disk: DCASE 2013 scenes, the ESC-50 repository (with ESC-10 in it), and a user's own sounds.

Every count is checked before a sound is read; one line says what is missing, what to get and where to put it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluate.benchmarks.benchmark import INNER_FOLDS, Benchmark, BenchmarkSpec, Recording, stratified
from shards.cli.words import amount
from shards.errors import UserError
from shards.lists import read_table
from shards.media.file import RECORDING_SUFFIXES

DCASE_FOLDERS = {"train": "scenes_stereo", "test": "scenes_stereo_testset"}


@dataclass(frozen=True)
class Entry:
    """A recording as a layout finds it, before classes are numbered; without a `fold` or `group`, that is empty."""

    path: Path
    name: str
    category: str
    fold: str
    group: str = ""


def load_benchmark(spec: BenchmarkSpec, root: Path) -> Benchmark:
    """The recordings under `root`. Raises UserError for whatever is missing, doubled or unexpected."""
    if spec.layout not in LAYOUTS:
        raise UserError(f"benchmark.layout={spec.layout} is unknown: choose among {', '.join(LAYOUTS)}")
    if not root.exists():
        raise UserError(f"root={root} does not exist. {_remedy(spec, root)}")
    entries = LAYOUTS[spec.layout](spec, root)
    classes = spec.classes or sorted({entry.category for entry in entries})
    _require_classes(spec, root, classes, entries)
    if missing := [entry.name for entry in entries if not entry.path.is_file()]:
        raise UserError(
            f"{root} lacks {len(missing)} of its {len(entries)} recordings (first {missing[0]}). {_remedy(spec, root)}"
        )
    return _assemble(spec, classes, entries)


def read_esc(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """The ESC-50 repository: meta/esc50.csv (its src_file is the group) and audio/, in any format that FFmpeg reads."""
    rows = _read_table(root / "meta" / "esc50.csv", ("filename", "fold", "category"), _remedy(spec, root))
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


def read_dcase2013(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """DCASE 2013 scenes: bus01.wav and so on in scenes_stereo/ (training) and scenes_stereo_testset/ (test)."""
    entries = []
    for fold, folder in DCASE_FOLDERS.items():
        paths = _sounds_in(root / folder)
        if not paths:
            raise UserError(f"{root / folder} holds no recordings. {_remedy(spec, root)}")
        for path in paths:
            match = re.fullmatch(r"([a-z]+)\d+", path.stem)
            if match is None or match[1] not in spec.classes:
                raise UserError(
                    f"{path} is no recording of {spec.name}: names are a class ({', '.join(spec.classes)}) and a "
                    "number. Take it away"
                )
            entries.append(Entry(path, f"{folder}/{path.name}", match[1], fold))
    return entries


def read_folder(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """A user's own sounds: a folder per class, or a CSV file with path, label and perhaps fold or split, and group.

    In a class's folder, each sub-folder is a group: takes of one source.
    """
    if root.is_dir():
        entries = []
        for folder in _folders_in(root):
            places = [(path, "") for path in _sounds_in(folder)]
            places += [(path, group.name) for group in _folders_in(folder) for path in _below(group)]
            entries += [
                Entry(path, path.relative_to(root).as_posix(), folder.name, "", group) for path, group in places
            ]
        return entries
    rows = _read_table(root, ("path", "label"), "Give a folder with a folder per class, or such a CSV file")
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


LAYOUTS = {"esc": read_esc, "dcase2013": read_dcase2013, "folder": read_folder}


def _require_classes(spec: BenchmarkSpec, root: Path, classes: Sequence[str], entries: Sequence[Entry]) -> None:
    """Every class is there, with its number of recordings in every fold, and no name stands there twice."""
    if len(classes) < 2:
        heard = amount(len(classes), "class", many="classes")
        raise UserError(f"{root} holds sounds of {heard}, a classifier needs 2. {_remedy(spec, root)}")
    missing = sorted(set(classes) - {entry.category for entry in entries})
    if missing:
        raise UserError(
            f"{root} has no recordings of {', '.join(missing)} ({len(missing)} of the {len(classes)} classes of "
            f"{spec.name}). {_remedy(spec, root)}"
        )
    unknown = sorted({entry.category for entry in entries} - set(classes))
    if unknown:
        raise UserError(f"{root} holds {', '.join(unknown)}, not among the classes {', '.join(classes)}")
    (name, count), *_ = Counter(entry.name for entry in entries).most_common(1)
    if count > 1:
        raise UserError(f"{root} lists {name} {count} times: keep one of them")
    if spec.per_class is None:
        return
    found = Counter((entry.category, entry.fold) for entry in entries)
    for category in classes:
        for fold in spec.folds:
            if found[category, fold] != spec.per_class:
                raise UserError(
                    f"{root} has {found[category, fold]} recordings of {category} in fold {fold}, {spec.name} has "
                    f"{spec.per_class}. {_remedy(spec, root)}"
                )


def _assemble(spec: BenchmarkSpec, classes: Sequence[str], entries: Sequence[Entry]) -> Benchmark:
    """Classes numbered and folds given: the data's own, or dealt out class by class where it has none."""
    entries = sorted(entries, key=lambda entry: entry.name)
    recordings = [
        Recording(entry.path, entry.name, classes.index(entry.category), entry.fold, entry.group) for entry in entries
    ]
    dealt = not any(recording.fold for recording in recordings)
    if dealt:
        _require_groups(classes, recordings)
        labels = np.array([recording.label for recording in recordings])
        folds = stratified(labels, INNER_FOLDS, [recording.source for recording in recordings])
        recordings = [replace(each, fold=str(1 + fold)) for each, fold in zip(recordings, folds, strict=True)]
    names = {recording.fold for recording in recordings}
    tested = spec.tested or (["test"] if {"train", "test"} <= names else sorted(names))
    _require_folds(recordings, tested)
    return Benchmark(spec, tuple(classes), tuple(recordings), tuple(tested), dealt)


def _require_groups(classes: Sequence[str], recordings: Sequence[Recording]) -> None:
    """A class whose recordings are all takes of one source can be learned or tested, and not both."""
    for label, name in enumerate(classes):
        groups = {recording.group for recording in recordings if recording.label == label}
        if len(groups) == 1 and "" not in groups:
            raise UserError(f"all recordings of {name} are of one group, {groups.pop()}: a class needs two and more")


def _require_folds(recordings: Sequence[Recording], tested: Sequence[str]) -> None:
    found = sorted({recording.fold for recording in recordings})
    if "" in found:
        raise UserError("some recordings have a fold or split and others have none: give all of them one")
    if len(found) < 2:
        raise UserError(f"all recordings are in fold {found[0]}: testing needs another one")
    for fold in tested:
        if fold not in found:
            raise UserError(f"benchmark.tested={fold}: the recordings are in the folds {', '.join(found)}")
    first: dict[str, Recording] = {}  # of each group
    for recording in recordings:
        other = first.setdefault(recording.source, recording)
        if other.fold != recording.fold:
            raise UserError(
                f"group {recording.group} is in two folds ({other.name} in {other.fold}, {recording.name} in "
                f"{recording.fold}): takes of one source belong into one"
            )


def _sounds_in(folder: Path) -> list[Path]:
    return sorted(filter(_is_sound, folder.iterdir())) if folder.is_dir() else []


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_sound(path))


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in RECORDING_SUFFIXES and path.name[0] != "."


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _read_table(path: Path, columns: Sequence[str], remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path} does not exist. {remedy}")
    try:
        with open(path, "rb") as stream:
            rows = list(read_table(stream, str(path), columns))
    except UserError as error:
        raise UserError(f"{error}. {remedy}") from None
    if not rows:
        raise UserError(f"{path} holds no row. {remedy}")
    absent = [column for column in columns if column not in rows[0][1]]
    if absent:
        raise UserError(f"{path} has no column {', '.join(absent)}, it has {list(rows[0][1])}. {remedy}")
    for number, row in rows:
        empty = [column for column in columns if not row[column]]
        if empty:
            raise UserError(
                f"{path}: row {number} has no {', '.join(empty)}: {list(row.values())}. Fill it in, or take it out"
            )
    return [row for _, row in rows]


def _remedy(spec: BenchmarkSpec, root: Path) -> str:
    return f"Get {spec.source} and unpack it to {root}" if spec.source else "Give a folder with a folder per class"
