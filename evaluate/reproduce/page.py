"""One self-contained page, and a JSON with the same cells."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from evaluate.reproduce.cells import Filled
from evaluate.reproduce.figures import Picture
from evaluate.reproduce.settings import ReproduceSettings
from pipeline.report.page import STYLE, template
from shards.files import write_whole

TEMPLATE = "index.html.j2"


def write_page(
    folder: Path, settings: ReproduceSettings, tables: list[Filled], pictures: list[Picture]
) -> tuple[Path, Path]:
    """index.html and reproduce.json in `folder`."""
    page = template(TEMPLATE, Path(__file__).parent, STYLE).render(tables=tables, pictures=pictures, settings=settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "index.html", page.encode())
    write_whole(folder / "reproduce.json", json.dumps(as_json(tables, pictures), indent=1).encode())
    return folder / "index.html", folder / "reproduce.json"


def as_json(tables: list[Filled], pictures: list[Picture]) -> dict[str, object]:
    """Every cell with its place, and which figures there are."""
    cells = [
        {"table": filled.table.number, "group": row.group, "row": row.title, "column": column.title, **asdict(cell)}
        for filled in tables
        for row, cells in zip(filled.table.rows, filled.cells, strict=True)
        for column, cell in zip(filled.table.columns, cells, strict=True)
    ]
    figures = [
        {name: getattr(picture, name) for name in ("number", "title", "caption", "missing", "command")}
        for picture in pictures
    ]
    return {"cells": cells, "figures": figures}
