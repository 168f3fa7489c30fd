"""The assembly of `make reproduce`: tables, figures, page."""

from __future__ import annotations

from evaluate.reproduce.cells import Filled, fill
from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.figures import FIGURES, draw
from evaluate.reproduce.multimodal import labelled_videos
from evaluate.reproduce.page import write_page
from evaluate.reproduce.paper import TABLES
from evaluate.reproduce.settings import ReproduceSettings
from shards.cli.words import amount
from shards.format.manifest import Manifest
from train.device.device import available_device


def run(settings: ReproduceSettings, experiments: Experiments) -> None:
    """Fill what can be filled; what cannot says why. Nothing is trained here but classifiers."""
    settings.device = available_device(settings.device)
    require_given(settings)
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
    print(f"{page}: {measured} of {cells} measured, {drawn} of {figures} drawn")


def require_given(settings: ReproduceSettings) -> None:
    """Raise UserError for shards, or labelled videos, that were named and are not there, before hours of tables."""
    if settings.shards is not None:
        Manifest.load(settings.shards)
    if settings.videos is not None:
        labelled_videos(settings.videos)
