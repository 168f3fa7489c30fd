"""Tags as a table for the eye, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluate.inference.tag.tags import SoundTags, Span, TagReport

TABLE_WIDTH = 120  # of a table in a file


def as_table(report: TagReport) -> str:
    """A table per file: a line per tag, the whole first."""
    text = io.StringIO()
    # No markup: a file may be called [bold]. Names that are no text are shown with question marks.
    console = Console(file=text, markup=False, highlight=False, width=TABLE_WIDTH)
    for path, sound in report.files.items():
        console.print(str(path).encode(errors="replace").decode(), soft_wrap=True)
        console.print(_table(sound))
    console.print(f"x: lift, times {report.lift_over}; %: posterior")
    return text.getvalue()


def as_json(report: TagReport) -> str:
    """{checkpoint, lift_over, files: [{file, seconds, whole, parts, unnamed}]}: in `unnamed` why there are no names."""
    files = [
        {
            "file": str(path),
            "seconds": sound.whole.end,
            "whole": asdict(sound.whole)["tags"],
            "unnamed": sound.whole.unnamed,
            "parts": [asdict(part) for part in sound.parts],
        }
        for path, sound in report.files.items()
    ]
    record = {"checkpoint": report.checkpoint, "lift_over": report.lift_over, "files": files}
    return json.dumps(record, indent=1) + "\n"


def as_line(path: Path, span: Span, lift_over: str) -> str:
    """One span in a line of JSON: {file, begin, end, tags, unnamed, lift_over}."""
    return json.dumps({"file": str(path), **record_of(span), "lift_over": lift_over}) + "\n"


def record_of(span: Span) -> dict[str, Any]:
    """{begin, end, tags, unnamed}, rounded for the eye."""
    tags = {
        head: [{"name": tag.name, "posterior": round(tag.posterior, 6), "lift": round(tag.lift, 3)} for tag in each]
        for head, each in span.tags.items()
    }
    return {"begin": round(span.begin, 3), "end": round(span.end, 3), "tags": tags, "unnamed": span.unnamed}


def as_csv(report: TagReport) -> str:
    """A row per tag; one, with the reason, of a span without. `span` is `whole` or `part`, rank 1 the highest lift."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("file", "span", "begin", "end", "head", "rank", "name", "posterior", "lift", "lift_over", "unnamed")
    )
    for path, sound in report.files.items():
        for kind, span in [("whole", sound.whole), *(("part", part) for part in sound.parts)]:
            place = (str(path), kind, round(span.begin, 3), round(span.end, 3))
            if span.unnamed:
                writer.writerow((*place, "", "", "", "", "", report.lift_over, span.unnamed))
            for head, tags in span.tags.items():
                for rank, tag in enumerate(tags, start=1):
                    numbers = (round(tag.posterior, 6), round(tag.lift, 3))
                    writer.writerow((*place, head, rank, tag.name, *numbers, report.lift_over, ""))
    return text.getvalue()


FORMATS: dict[str, Callable[[TagReport], str]] = {"table": as_table, "json": as_json, "csv": as_csv}


def clock(seconds: float) -> str:
    """83.5 -> 1:23.5"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def _table(sound: SoundTags) -> Table:
    table = Table()
    table.add_column("time", no_wrap=True)
    for head in sound.whole.tags:
        table.add_column(head, overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("x", justify="right", no_wrap=True)
        table.add_column("%", justify="right", no_wrap=True)
    for span in [sound.whole, *sound.parts]:
        when = "whole" if span is sound.whole else f"{clock(span.begin)} - {clock(span.end)}"
        if span.unnamed:
            table.add_row(when, f"({span.unnamed})")
        for line in range(max(map(len, span.tags.values()), default=0)):
            cells = [when if line == 0 else ""]
            for tags in span.tags.values():
                tag = tags[line] if line < len(tags) else None
                cells += ["", "", ""] if tag is None else [tag.short, f"{tag.lift:.1f}", f"{100 * tag.posterior:.1f}"]
            table.add_row(*cells)
        table.add_section()
    return table
