"""The learning curves as one picture: training loss, and each head's validation KL under its two baselines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """`rows` are those of metrics.jsonl."""
    training = [row for row in rows if "loss" in row]
    validation = [row for row in rows if "validation" in row]
    heads = sorted(
        {measure.rpartition("/")[0] for row in validation for measure in row["validation"]},
    )
    figure = Figure(figsize=(5 * (1 + len(heads)), 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(heads), squeeze=False)[0]
    panels[0].plot([row["step"] for row in training], [row["loss"] for row in training])
    panels[0].set(title="training loss", xlabel="step")
    for head, panel in zip(heads, panels[1:], strict=True):
        _draw_head(head, validation, panel)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=100)
    os.replace(partial, path)


def _draw_head(head: str, validation: Sequence[Mapping[str, Any]], panel: Axes) -> None:
    steps = [row["step"] for row in validation]
    measures = {"mse": "student", "mse_silence": "silence"} if not head else LABELS
    for measure, label in measures.items():
        name = f"{head}/{measure}" if head else measure
        style = "-o" if label == "student" else "--"
        panel.plot(steps, [row["validation"][name] for row in validation], style, label=label, markersize=3)
    panel.set(title=f"held out: {head + ' KL' if head else 'mse'}", xlabel="step", ylim=(0, None))
    panel.legend()


LABELS = {"kl": "student", "kl_mean": "training set's mean posterior", "kl_uniform": "uniform"}
