"""What a reader of a layout gives, and what all read with: sounds of a folder, rows of a table, columns of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from shards.errors import UserError
from shards.lists import read_lines, read_table
from shards.media.file import RECORDING_SUFFIXES


@dataclass(frozen=True)
class Entry:
    """A recording as a layout finds it, before classes are numbered; without a `fold` or `group`, that is empty."""

    path: Path
    name: str
    category: str
    fold: str
    group: str = ""
    left_out: frozenset[str] = frozenset()  # folds whose training set it is not in, without being tested there
    others: tuple[str, ...] = ()  # further classes, of multi-label data


def sounds_in(folder: Path) -> list[Path]:
    return sorted(filter(is_sound, folder.iterdir())) if folder.is_dir() else []


def below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_sound(path))


def is_sound(path: Path) -> bool:
    return path.suffix.lower() in RECORDING_SUFFIXES and path.name[0] != "."


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def read_rows(path: Path, columns: Sequence[str], remedy: str) -> list[dict[str, str]]:
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


def remedy(spec: BenchmarkSpec, root: Path) -> str:
    return f"Get {spec.source} and unpack it to {root}" if spec.source else "Give a folder with a folder per class"


def read_columns(path: Path, least: int, remedy: str) -> dict[str, str]:
    """{first column: second, or empty} of lines parted by tabs. Raises UserError for fewer columns than `least`."""
    if not path.is_file():
        raise UserError(f"{path} does not exist. {remedy}")
    found: dict[str, str] = {}
    with open(path, "rb") as stream:
        for number, line in read_lines(stream, str(path)):
            first, *others = (cell.strip() for cell in line.split("\t"))
            if 1 + len(others) < least:
                raise UserError(f"{path}: line {number} has no class behind a tab: {line!r}. {remedy}")
            if first in found:
                raise UserError(f"{path} lists {first} twice: keep one of them")
            found[first] = others[0] if others else ""
    if not found:
        raise UserError(f"{path} holds no line. {remedy}")
    return found
