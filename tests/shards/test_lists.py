"""Lists as spreadsheets and people write them, and one line for what is none."""

from __future__ import annotations

import io
import re

import pytest

from shards.errors import UserError
from shards.lists import read_lines, read_table

TABLE = "path,label\na.mp4,x\n\nb.mp4,ü\n"
ROWS = [(2, {"path": "a.mp4", "label": "x"}), (4, {"path": "b.mp4", "label": "ü"})]


def table(data: bytes | str, name: str = "list.csv") -> list[tuple[int, dict[str, str]]]:
    data = data.encode() if isinstance(data, str) else data
    return list(read_table(io.BytesIO(data), name, ("path", "url")))


def lines(data: bytes) -> list[tuple[int, str]]:
    return list(read_lines(io.BytesIO(data), "list.txt"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_spreadsheets_write_it(mark, end, delimiter):
    assert table(mark + TABLE.replace(",", delimiter).replace("\n", end).encode()) == ROWS


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_as_editors_write_them(mark, end):
    data = mark + end.join([b"a.mp4", b"", b" b;,\xff.mp4"]) + end
    assert lines(data) == [(1, "a.mp4"), (3, " b;,\udcff.mp4")]
    assert [text for _, text in lines(data + data)] == ["a.mp4", " b;,\udcff.mp4"] * 2  # joined, the mark within


def test_names_with_delimiters_quotes_and_line_breaks():
    assert table('path,label\n"a, ""b""\nc.mp4","say ""no"", twice"\nd"e.mp4,\n') == [
        (2, {"path": 'a, "b"\nc.mp4', "label": 'say "no", twice'}),
        (4, {"path": 'd"e.mp4', "label": ""}),
    ]
    assert table("path;a,b\n1,5.mp4;x\n".replace("a,b", "b")) == [(2, {"path": "1,5.mp4", "b": "x"})]
    assert table("path\na;b.mp4\n") == [(2, {"path": "a;b.mp4"})]
    assert table("path\na,b.mp4\n", "list.tsv") == [(2, {"path": "a,b.mp4"})]


def test_what_a_row_lacks_is_empty_and_columns_without_a_name_are_left_out():
    assert table(",path,label,\n0,a.mp4\n1,b.mp4,x,,,\n,,\n") == [
        (2, {"path": "a.mp4", "label": ""}),
        (3, {"path": "b.mp4", "label": "x"}),
    ]


UNCLOSED = 'path,title\nz.mp4,t\na.mp4,"never closed\n'
FAULTS = {
    "zero bytes": (b"path\na.mp4\n\0\0\0\n", "row 3: UTF-16 text, or no text at all"),
    "UTF-16": (TABLE.encode("utf-16"), "row 1: UTF-16 text"),
    "UTF-16 without zero bytes in its first row": ("é中\n".encode("utf-16"), "row 1: UTF-16 text"),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), "row 1: UTF-16 text"),
    "UTF-32": (TABLE.encode("utf-32"), "row 1: UTF-16 text"),
    "a film": (b"\0\0\0\x20ftypisom\n", "row 1: UTF-16 text, or no text at all"),
    "no line ends": (b"path" * 2**19, "row 1: it is longer than 1048576 characters"),
    "a quote never closed": (UNCLOSED.encode(), "row 3: unexpected end of data"),
    "and a long file": ((UNCLOSED + "x.mp4,t\n" * 30_000).encode(), "row 3: field larger than field limit"),
    "a quote closed by another": ((UNCLOSED + 'x.mp4,"t"\n').encode(), "row 3: ',' expected after '\"'"),
    "a quote closed later": ((UNCLOSED + 'x.mp4,t\ny.mp4,u"\n').encode(), "row 3: a double quote begins here"),
    "more fields": (b"path,label\na.mp4,x\nb.mp4,dog, barking\n", "row 3: it has 3 fields and the first row 2"),
    "no column": (b"link,label\na.mp4,x\n", "row 1: it has no column path or url, only 'link,label'"),
    "no header": (b"a.mp4\nb.mp4\n", "row 1: it has no column path or url, only 'a.mp4'"),
    "a long binary header": (bytes(range(1, 10)) * 99, "row 1: it has no column path or url"),
    "nothing": (b"", "row 1: it has no column path or url, only ''"),
    "a mark alone": (b"\xef\xbb\xbf", "row 1: it has no column"),
    "mixed delimiters": (b"path;start,end\na.mp4;1,2\n", "row 1: columns must be parted by commas"),
    "a column twice": (b"path,label,label\na.mp4,x,y\n", "row 1: there are two columns 'label'"),
}


@pytest.mark.parametrize(("data", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_table_is_refused_in_one_line_with_its_row(data, message):
    with pytest.raises(UserError, match=re.escape(f"list.csv, {message}")) as caught:
        table(data)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [b"a.mp4\n\0b.mp4\n", "x\ny\n".encode("utf-16"), "ü\n".encode("utf-32-be")])
def test_what_is_no_text_is_refused_in_one_line_with_its_row(data):
    with pytest.raises(UserError, match=r"^list\.txt, row [12]: UTF-16 text, or no text at all.*UTF-8"):
        lines(data)
