"""Findings as a table for the eye, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from evaluate.inference.tag.tags import Finding, Findings, Span

TABLE_WIDTH = 120  # of a table in a file


def as_table(findings: Findings) -> str:
    """A table per file: a line per tag, the whole first."""
    text = io.StringIO()
    # No markup: a file may be called [bold]. Names that are no text are shown with question marks.
    console = Console(file=text, markup=False, highlight=False, width=TABLE_WIDTH)
    for finding in findings.findings:
        console.print(str(finding.path).encode(errors="replace").decode(), soft_wrap=True)
        console.print(_table(finding))
    console.print(f"x: lift, times {findings.lift_over}; %: posterior")
    return text.getvalue()


def as_json(findings: Findings) -> str:
    """{checkpoint, lift_over, files: [{file, seconds, whole, parts}]}."""

    def told(span: Span) -> dict[str, object]:
        return {"begin": span.begin, "end": span.end, "tags": asdict(span)["tags"]}

    files = [
        {
            "file": str(finding.path),
            "seconds": finding.whole.end,
            "whole": told(finding.whole)["tags"],
            "parts": [told(part) for part in finding.parts],
        }
        for finding in findings.findings
    ]
    record = {"checkpoint": findings.checkpoint, "lift_over": findings.lift_over, "files": files}
    return json.dumps(record, indent=1) + "\n"


def as_csv(findings: Findings) -> str:
    """A row per tag, as `Findings.rows` has them."""
    text = io.StringIO()
    rows = findings.rows()
    columns = ("file", "span", "begin", "end", "head", "rank", "name", "posterior", "lift", "lift_over")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[Findings], str]] = {"table": as_table, "json": as_json, "csv": as_csv}


def clock(seconds: float) -> str:
    """83.5 -> 1:23.5"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def _table(finding: Finding) -> Table:
    table = Table()
    table.add_column("time", no_wrap=True)
    for head in finding.whole.tags:
        table.add_column(head, overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("x", justify="right", no_wrap=True)
        table.add_column("%", justify="right", no_wrap=True)
    for span in [finding.whole, *finding.parts]:
        when = "whole" if span is finding.whole else f"{clock(span.begin)} - {clock(span.end)}"
        for line in range(max(map(len, span.tags.values()), default=0)):
            cells = [when if line == 0 else ""]
            for tagged in span.tags.values():
                tag = tagged[line] if line < len(tagged) else None
                cells += ["", "", ""] if tag is None else [tag.short, f"{tag.lift:.1f}", f"{100 * tag.posterior:.1f}"]
            table.add_row(*cells)
        table.add_section()
    return table
