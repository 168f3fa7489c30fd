"""The picture: for each head the distances from the teacher, and the classes that sound tells best and worst."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from evaluate.figures.canvas import ACCENT, canvas, png
from evaluate.probe.evidence.findings import Finding, Mean
from shards.cli.words import amount

CLASSES = 8  # at each end
GREY = "#8a8f94"


def draw_findings(findings: Sequence[Finding], layer: str) -> bytes:
    """A PNG, a row of two panels for each head."""
    figure = canvas(11, 3.6 * len(findings))
    for (left, right), finding in zip(figure.subplots(len(findings), 2, squeeze=False), findings, strict=True):
        _draw_distances(left, finding, layer)
        _draw_classes(right, finding)
        for axes in (left, right):
            axes.tick_params(axis="x", labelsize=8)
            axes.locator_params(axis="x", nbins=6)
    return png(figure)


def _draw_distances(axes: Axes, finding: Finding, layer: str) -> None:
    rows: list[tuple[str, Mean]] = [("uniform", finding.uniform), ("mean posterior", finding.mean_posterior)]
    rows += [(f"random network {seed}", mean) for seed, mean in enumerate(finding.random)]
    rows += [(layer, finding.features)]
    names = [*(name for name, _ in rows), f"{len(finding.shuffled)} shuffled pairings"]
    for place, (_, mean) in enumerate(rows):
        colour = ACCENT if place == len(rows) - 1 else GREY
        axes.plot(mean.interval, [place, place], color=colour, linewidth=2)
        axes.plot([mean.value], [place], "o", color=colour)
    axes.plot(finding.shuffled_distances, [len(rows)] * len(finding.shuffled), "|", color=GREY, markersize=9)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("KL from the teacher, nats (95 % over videos)", fontsize=8)
    axes.set_title(
        f"{finding.head}: {finding.verdict}, {amount(finding.videos, 'video')} tested, p = {finding.p:.2g}", fontsize=9
    )


def _draw_classes(axes: Axes, finding: Finding) -> None:
    shown = finding.by_class
    if len(shown) > 2 * CLASSES:
        shown = shown[:CLASSES] + shown[-CLASSES:]
    colours = [ACCENT if each.gain > 0 else GREY for each in shown]
    axes.barh(range(len(shown)), [each.gain for each in shown], color=colours)
    axes.set_yticks(range(len(shown)), [each.name.replace("$", r"\$")[:32] for each in shown], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("part of the gain over the mean posterior, nats", fontsize=8)
    axes.set_title("classes told best and worst", fontsize=9)
