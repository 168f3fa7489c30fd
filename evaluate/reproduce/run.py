"""The assembly of `make reproduce`: tables, figures, one self-contained page, and a JSON with the same cells."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from evaluate.reproduce.cells import Filled, fill
from evaluate.reproduce.estimate import estimate, in_words
from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.figures import FIGURES, Picture, draw
from evaluate.reproduce.multimodal import labelled_videos
from evaluate.reproduce.paper import TABLES
from evaluate.reproduce.settings import ReproduceSettings
from pipeline.report.page import STYLE, template
from shards.cli.words import amount
from shards.files import writable_folder, write_whole
from shards.format.manifest import Manifest
from train.device.device import available_device

TEMPLATE = "index.html.j2"


def run(settings: ReproduceSettings, experiments: Experiments) -> None:
    """Fill what can be filled; what cannot says why. Nothing is trained here but classifiers."""
    settings.device = available_device(settings.device)
    require_given(settings)
    print(estimate(settings, experiments), flush=True)
    began, spent = time.monotonic(), time.process_time()
    tables: list[Filled] = []
    for table in TABLES:
        if table.number in settings.tables:
            print(f"Table {table.number}: {table.title}", flush=True)
            tables.append(fill(table, settings, experiments))
    pictures = []
    for number, (title, _) in FIGURES.items():
        if number in settings.figures:
            print(f"Figure {number}: {title}", flush=True)
            pictures.append(draw(number, settings, experiments))
    page, _ = write_page(settings.out, settings, tables, pictures)
    ours = [cell for filled in tables for row in filled.cells for cell in row if cell.ours is not None or cell.missing]
    measured = sum(cell.ours is not None for cell in ours)
    drawn = sum(not picture.missing for picture in pictures)
    cells, figures = amount(len(ours), "cell"), amount(len(pictures), "figure")
    took = f"{in_words(time.process_time() - spent)} of CPU time, {in_words(time.monotonic() - began)} by the clock"
    print(f"{page}: {measured} of {cells} measured, {drawn} of {figures} drawn, in {took}")


def require_given(settings: ReproduceSettings) -> None:
    """Raise UserError for shards, or labelled videos, that were named and are not there, and OSError for folders that
    cannot be written, before hours of tables."""
    if settings.shards is not None:
        Manifest.load(settings.shards)
    if settings.videos is not None:
        labelled_videos(settings.videos)
    for folder in (settings.out, settings.cache):
        writable_folder(folder)


def write_page(
    folder: Path, settings: ReproduceSettings, tables: list[Filled], pictures: list[Picture]
) -> tuple[Path, Path]:
    """index.html and reproduce.json in `folder`."""
    page = template(TEMPLATE, Path(__file__).parent, STYLE).render(tables=tables, pictures=pictures, settings=settings)
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
