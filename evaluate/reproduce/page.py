"""One self-contained page, and a JSON with the same cells."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluate.reproduce.cells import Filled
from evaluate.reproduce.pictures import Picture
from evaluate.reproduce.settings import ReproduceSettings
from shards.manifest import write_whole

HERE = Path(__file__).parent
STYLE = HERE.parents[1] / "pipeline" / "report"  # the pages of the project look alike


def write_page(
    folder: Path, settings: ReproduceSettings, tables: list[Filled], pictures: list[Picture]
) -> tuple[Path, Path]:
    """index.html and reproduce.json in `folder`."""
    environment = Environment(
        loader=FileSystemLoader([HERE, STYLE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = "{:.1%}".format
    page = environment.get_template("index.html.j2").render(tables=tables, pictures=pictures, settings=settings)
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
