"""From a benchmark's folder to its recordings: the reader of its layout, and the checks that all layouts share.

Every count is checked before a sound is read; one line says what is missing, what to get and where to put it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluate.benchmarks.benchmark import INNER_FOLDS, Benchmark, BenchmarkSpec, Recording, stratified
from evaluate.benchmarks.readers.entry import Entry, remedy
from evaluate.benchmarks.readers.folder import read_folder
from evaluate.benchmarks.readers.fsd50k import read_fsd50k
from evaluate.benchmarks.readers.scenes import read_dcase2013, read_tut
from evaluate.benchmarks.readers.tables import read_esc, read_urbansound8k
from shards.cli.words import amount
from shards.errors import UserError

LAYOUTS: dict[str, Callable[[BenchmarkSpec, Path], list[Entry]]] = {
    "esc": read_esc,
    "urbansound8k": read_urbansound8k,
    "dcase2013": read_dcase2013,
    "tut": read_tut,
    "fsd50k": read_fsd50k,
    "folder": read_folder,
}


def load_benchmark(spec: BenchmarkSpec, root: Path) -> Benchmark:
    """The recordings under `root`. Raises UserError for whatever is missing, doubled or unexpected."""
    if spec.layout not in LAYOUTS:
        raise UserError(f"benchmark.layout={spec.layout} is unknown: choose among {', '.join(LAYOUTS)}")
    if not root.exists():
        raise UserError(f"root={root} does not exist. {remedy(spec, root)}")
    entries = LAYOUTS[spec.layout](spec, root)
    classes = spec.classes or sorted({name for entry in entries for name in (entry.category, *entry.others)})
    _require_classes(spec, root, classes, entries)
    if missing := [entry.name for entry in entries if not entry.path.is_file()]:
        raise UserError(
            f"{root} lacks {len(missing)} of its {len(entries)} recordings (first {missing[0]}). {remedy(spec, root)}"
        )
    return _assemble(spec, classes, entries)


def _require_classes(spec: BenchmarkSpec, root: Path, classes: Sequence[str], entries: Sequence[Entry]) -> None:
    """Every class is there, with its number of recordings in every fold, and no name stands there twice."""
    if len(classes) < 2:
        heard = amount(len(classes), "class", many="classes")
        raise UserError(f"{root} holds sounds of {heard}, a classifier needs 2. {remedy(spec, root)}")
    found = {name for entry in entries for name in (entry.category, *entry.others)}
    if missing := sorted(set(classes) - found):
        raise UserError(
            f"{root} has no recordings of {', '.join(missing)} ({len(missing)} of the {len(classes)} classes of "
            f"{spec.name}). {remedy(spec, root)}"
        )
    if unknown := sorted(found - set(classes)):
        raise UserError(f"{root} holds {', '.join(unknown)}, not among the classes {', '.join(classes)}")
    (name, count), *_ = Counter(entry.name for entry in entries).most_common(1)
    if count > 1:
        raise UserError(f"{root} lists {name} {count} times: keep one of them")
    for entry in entries:
        if spec.folds and entry.fold not in spec.folds:
            raise UserError(f"{root} has {entry.name} in fold {entry.fold}, {spec.name} has {', '.join(spec.folds)}")
    if spec.recordings not in (None, len(entries)):
        raise UserError(
            f"{root} lists {amount(len(entries), 'recording')}, {spec.name} has {spec.recordings}. {remedy(spec, root)}"
        )
    if spec.per_class is None:
        return
    counts = Counter((entry.category, entry.fold) for entry in entries)
    for category in classes:
        for fold in spec.folds:
            if counts[category, fold] != spec.per_class:
                raise UserError(
                    f"{root} has {amount(counts[category, fold], 'recording')} of {category} in fold {fold}, "
                    f"{spec.name} has {spec.per_class}. {remedy(spec, root)}"
                )


def _assemble(spec: BenchmarkSpec, classes: Sequence[str], entries: Sequence[Entry]) -> Benchmark:
    """Classes numbered and folds given: the data's own, or dealt out class by class where it has none."""
    entries = sorted(entries, key=lambda entry: entry.name)
    recordings = [
        Recording(
            entry.path,
            entry.name,
            classes.index(entry.category),
            entry.fold,
            entry.group,
            entry.left_out,
            tuple(map(classes.index, entry.others)),
        )
        for entry in entries
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
