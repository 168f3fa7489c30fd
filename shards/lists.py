"""Lists as people write them: text with a path a line, or a table (CSV, TSV) whose first row names its columns.

All commands read lists here. UTF-8, with or without a byte order mark; what is no list is refused in one line with its
row. Rows are counted as a text editor counts lines, from 1.
"""

from __future__ import annotations

import csv
import io
import itertools
import posixpath
from collections.abc import Iterator, Sequence
from typing import IO

from shards.errors import UserError
from shards.media.file import RECORDING_SUFFIXES

LONGEST_LINE = 2**20  # characters; no row of a list has more
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
OTHER_BYTE_ORDER_MARKS = ("\udcff\udcfe", "\udcfe\udcff")  # of UTF-16 and UTF-32, read as UTF-8


def read_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """(row, text) of each line that is not blank. Bytes that are no UTF-8 stay what they are. Raises UserError."""
    for number, line in enumerate(_decoded(stream, name), 1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def read_table(stream: IO[bytes], name: str, known: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(row, {column: field}) of each row that is not blank; a field that a row lacks is empty.

    One of the columns `known` must be there; those without a name are left out. Fields are parted by commas, or by
    semicolons or tabs where the first row has no other. Raises UserError.
    """
    lines = _decoded(stream, name)
    header = next(lines, "")
    delimiter = _delimiter(header, name, known)
    reader = csv.reader(itertools.chain([header], lines), delimiter=delimiter, strict=True)
    columns = [column.strip() for column in _next_row(reader, name) or []]
    if doubled := [column for column in columns if column and columns.count(column) > 1]:
        raise UserError(f"{name}, row 1: there are two columns {doubled[0]!r}: keep one of them")
    while True:
        number = reader.line_num + 1
        fields = _next_row(reader, name)
        if fields is None:
            return
        if not any(map(str.strip, fields)):
            continue
        if any(fields[len(columns) :]):
            raise UserError(
                f"{name}, row {number}: it has {len(fields)} fields and the first row {len(columns)}: a field that "
                f"holds {DELIMITERS[delimiter]} must stand in double quotes"
            )
        if _swallows_rows(fields, columns, delimiter, known):
            raise UserError(f"{name}, row {number}: a double quote begins here and is not closed in this row")
        fields += [""] * (len(columns) - len(fields))
        yield number, {column: field for column, field in zip(columns, fields, strict=False) if column}


def _decoded(stream: IO[bytes], name: str) -> Iterator[str]:
    """Lines with their ends. A mark at the start of any of them is left out: lists are joined with `cat`."""
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    for number in itertools.count(1):
        line = text.readline(LONGEST_LINE)
        if not line:
            return
        if "\0" in line or line.startswith(OTHER_BYTE_ORDER_MARKS):
            raise UserError(f"{name}, row {number}: UTF-16 text, or no text at all: save the list as UTF-8 text")
        if len(line) == LONGEST_LINE:
            raise UserError(f"{name}, row {number}: it is longer than {LONGEST_LINE} characters: this is no list")
        yield line.lstrip("\ufeff")


def _delimiter(header: str, name: str, known: Sequence[str]) -> str:
    """What parts the fields, by a first row in which one of the columns `known` must be found."""
    found = [
        delimiter
        for delimiter in DELIMITERS
        if not {*known}.isdisjoint(map(str.strip, next(csv.reader([header], delimiter=delimiter), [])))
    ]
    if "," in found:
        return "\t" if name.lower().endswith(".tsv") and "\t" in found else ","
    if not found:
        start = ascii(header.strip())[:100]
        raise UserError(f"{name}, row 1: it has no column {' or '.join(known)}, only {start}, parted by commas")
    if len(found) > 1 or any(other in header for other in DELIMITERS if other != found[0]):
        raise UserError(f"{name}, row 1: columns must be parted by commas, or by one of semicolons and tabs alone")
    return found[0]


def _next_row(reader: Iterator[list[str]], name: str) -> list[str] | None:
    number: int = reader.line_num + 1  # type: ignore[attr-defined]
    try:
        return next(reader, None)
    except csv.Error as error:
        raise UserError(f"{name}, row {number}: {error}: is a double quote missing, or one too many?") from None


def _swallows_rows(fields: Sequence[str], columns: Sequence[str], delimiter: str, known: Sequence[str]) -> bool:
    """Whether a field of several lines holds what looks like a row: as many fields, and the name of a media file."""
    if len(columns) == 1:  # then it is a name with a line break in it
        return False
    paths = [place for place, column in enumerate(columns) if column in known]
    lines = (line for field in fields for line in field.splitlines()[1:])
    rows = (next(csv.reader([line], delimiter=delimiter), []) for line in lines)
    return any(
        posixpath.splitext(row[place])[1].lower() in RECORDING_SUFFIXES
        for row in rows
        if len(row) == len(columns)
        for place in paths
    )
