"""Several checkpoints of a run on one benchmark: how good they are over the training's steps, as a table and a curve.

The held-out KL that picks best.pt is not the goal; this is.
"""

from __future__ import annotations

import csv
import glob
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.probe.scores import Score, Scores
from shards.errors import UserError
from shards.files import write_whole

TABLE, CURVE = "steps.csv", "steps.png"


@dataclass(frozen=True)
class Point:
    """One score of the network after so many steps."""

    step: int
    file: str
    score: Score

    @property
    def curve(self) -> str:
        """The curve it lies on."""
        return " ".join(part for part in (self.score.layer, self.score.classifier) if part)


def checkpoints_of(pattern: Path) -> list[Path]:
    """The files of a pattern such as `step-*.pt`; none for a plain path. Raises UserError where nothing matches."""
    if not glob.has_magic(str(pattern)) or pattern.exists():
        return []
    found = [Path(path) for path in sorted(glob.glob(str(pattern)))]
    if not found:
        raise UserError(
            f"checkpoint={pattern} matches no file: make train keep_every=1000 keeps step-0001000.pt and so on"
        )
    return found


def points_of(scores: Scores) -> list[Point]:
    """Of one checkpoint's own scores."""
    assert scores.checkpoint is not None
    step, file = scores.checkpoint["position"]["step"], scores.checkpoint["file"]
    return [Point(step, file, score) for score in scores.scores if score.features == "checkpoint"]


def write_steps(folder: Path, points: Sequence[Point], baselines: Sequence[Score]) -> tuple[Path, Path]:
    """The table and the curve, baselines as level lines in it."""
    from evaluate.figures.canvas import ACCENT, canvas, png  # matplotlib takes 0.3 s to import, and is an extra

    points = sorted(points, key=lambda point: (point.step, point.file))
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["step", "file", "layer", "classifier", "measure", "value", "low", "high", "recordings"])
    for point in points:
        score = point.score
        numbers = (f"{each:.5f}" for each in (score.value, *score.interval))
        table.writerow(
            [point.step, point.file, score.layer, score.classifier, score.measure, *numbers, score.recordings]
        )
    figure = canvas(7, 4.5)
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(point.curve for point in points)):
        own = [point for point in points if point.curve == name]
        at, colour = [point.step for point in own], ACCENT if number == 0 else f"C{number}"
        axes.plot(at, [100 * point.score.value for point in own], "o-", color=colour, label=name)
        low, high = ([100 * point.score.interval[side] for point in own] for side in (0, 1))
        axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
    for score in baselines:
        axes.axhline(100 * score.value, color="#8a8f94", linestyle=":", linewidth=1)
        axes.annotate(str(score).partition(":")[0], (points[0].step, 100 * score.value), fontsize=7, va="bottom")
    axes.set_xlabel("training steps")
    axes.set_ylabel(f"{points[0].score.measure} on {points[0].score.benchmark}, % (shaded: 95 %)")
    axes.legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TABLE, rows.getvalue().encode())
    write_whole(folder / CURVE, png(figure))
    return folder / TABLE, folder / CURVE
