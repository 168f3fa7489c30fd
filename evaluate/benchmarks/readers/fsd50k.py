"""FSD50K: recordings that have several classes each."""

from __future__ import annotations

from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.readers.entry import Entry, read_rows, remedy
from shards.errors import UserError
from shards.lists import read_lines

GROUND_TRUTH = "FSD50K.ground_truth"
SPLITS = ("train", "val")  # of dev.csv


def read_fsd50k(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """FSD50K (Fonseca 2020): ground truth in dev.csv, eval.csv and vocabulary.csv, sounds in dev_audio and eval_audio.

    Folds are `train` and `val`, as dev.csv splits them, and `test`. Raises UserError, also for a class of the
    vocabulary that has no recording to learn from or none to test.
    """
    known = read_vocabulary(root / GROUND_TRUTH / "vocabulary.csv", remedy(spec, root))
    entries: list[Entry] = []
    for part, columns in {"dev": ("fname", "labels", "split"), "eval": ("fname", "labels")}.items():
        path = root / GROUND_TRUTH / f"{part}.csv"
        own = []
        for row in read_rows(path, columns, remedy(spec, root)):
            fold = row["split"] if part == "dev" else "test"
            if part == "dev" and fold not in SPLITS:
                raise UserError(f"{path} has {row['fname']} in split {fold}, there are {' and '.join(SPLITS)}")
            name = f"FSD50K.{part}_audio/{row['fname']}.wav"
            first, *others = _labels(row["labels"], known, path, row["fname"])
            own.append(Entry(root / name, name, first, fold, others=tuple(others)))
        found = {label for entry in own for label in (entry.category, *entry.others)}
        if lacking := [label for label in known if label not in found]:
            raise UserError(
                f"{path} has no recording of {lacking[0]} ({len(lacking)} of the {len(known)} classes of "
                f"vocabulary.csv lack one). {remedy(spec, root)}"
            )
        entries += own
    tested = {entry.path.name for entry in entries if entry.fold == "test"}
    if both := [entry.path.stem for entry in entries if entry.fold != "test" and entry.path.name in tested]:
        raise UserError(f"{root / GROUND_TRUTH} has {both[0]} in dev.csv and in eval.csv: keep one of them")
    return entries


def read_vocabulary(path: Path, remedy: str) -> list[str]:
    """The classes: lines of number, name and AudioSet's id, without a header. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path} does not exist. {remedy}")
    found: list[str] = []
    with open(path, "rb") as stream:
        for number, line in read_lines(stream, str(path)):
            _, name, *_ = (*(cell.strip() for cell in line.split(",")), "")
            if not name:
                raise UserError(f"{path}: line {number} has no class behind a comma: {line!r}. {remedy}")
            if name in found:
                raise UserError(f"{path} lists {name} twice: keep one of them")
            found.append(name)
    if not found:
        raise UserError(f"{path} holds no line. {remedy}")
    return found


def _labels(cell: str, known: list[str], path: Path, name: str) -> list[str]:
    labels = [label.strip() for label in cell.split(",")]
    for label in labels:
        if label not in known:
            raise UserError(f"{path} has {name} as {label!r}, which is not in vocabulary.csv")
        if labels.count(label) > 1:
            raise UserError(f"{path} has {name} as {label} twice: keep one of them")
    return labels
