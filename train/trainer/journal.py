"""The log of a run: a progress bar on a terminal or lines elsewhere, metrics.jsonl, TensorBoard, curves.png."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from shards.cli.words import amount
from shards.files import append_line, replacing, write_whole
from train.runfolder import RunFolder
from train.trainer.meter import Reading
from train.trainer.validation import Validation

LABELS = {"kl": "student", "kl_mean": "training set's mean posterior", "kl_uniform": "uniform"}
AUTOENCODER_LABELS = {"mse": "student", "mse_silence": "silence"}


@dataclass(frozen=True)
class Cost:
    """What training on one clip takes: arithmetic forward and back (counted as twice forward), and bytes to read."""

    flops: float
    read_bytes: float


class Journal:
    """Use as a context. `step` is where the run resumes; what was noted of later steps, before a kill, is dropped.

    At step 0 that is everything: what is there is of a try that saved nothing.
    """

    def __init__(self, folder: RunFolder, *, step: int, steps: int, batch: int) -> None:
        self._folder, self._steps, self._batch = folder, steps, batch
        rows = history(folder.metrics, step) if step else []
        write_whole(folder.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._board = SummaryWriter(folder.path, purge_step=step + 1 if step else 0)
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("steps", total=steps, completed=step, state="")
        self._is_drawn = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._board.close()
        if kind is None and not self._is_drawn:
            self._draw()

    def log(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def log_training(self, step: int, reading: Reading, cost: Cost, *, epoch: float, skipped: int = 0) -> None:
        """Note the steps since the last time, and how many damaged clips were left out so far."""
        rate = reading.steps * self._batch / reading.seconds
        values = {
            "loss": reading.loss,
            "gradient_norm": reading.gradient_norm,
            "clips_per_second": rate,
            "waited": reading.waited,
            "epoch": epoch,
            "gflops_per_second": rate * cost.flops / 1e9,
            "read_megabytes_per_second": rate * cost.read_bytes / 1e6,
        }
        if skipped:
            values["skipped"] = skipped
        self._note({"step": step, **values}, {f"train/{name}": value for name, value in values.items()})
        state = f"epoch {epoch:.2f}  loss {reading.loss:.4f}  {rate:.1f} clips/s  "
        state += f"{values['gflops_per_second']:.3g} GFLOP/s  {values['read_megabytes_per_second']:.3g} MB/s read  "
        state += f"{reading.waited:.0%} waiting for data"
        state += f"  {amount(skipped, 'clip')} skipped" if skipped else ""
        self._bar.update(self._task, completed=step, state=state)
        if not self._console.is_terminal:
            self.log(f"step {step}/{self._steps}  {state}")

    def log_validation(self, step: int, validation: Validation) -> None:
        """Note a validation, write every video's numbers, draw the curves."""
        means = validation.means
        self._note({"step": step, "validation": means}, {f"validation/{name}": value for name, value in means.items()})
        found = {"step": step, "clips": len(validation.keys), "mean": means, "videos": validation.videos}
        write_whole(self._folder.validation, json.dumps(found, indent=1).encode())
        self._draw()
        self.log(f"step {step}: held out: {describe(means)}")

    def log_stop(self, step: int, signal: str) -> None:
        """Note, as the last row, that the run is not at its end: what a scheduler's script may look for."""
        self._note({"step": step, "stopped": signal}, {})
        self.log(f"stopped by {signal} after step {step}: the same command goes on")

    def _note(self, row: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        append_line(self._folder.metrics, json.dumps(row))
        for name, value in scalars.items():
            self._board.add_scalar(name, value, row["step"])
        self._is_drawn = False

    def _draw(self) -> None:
        draw_curves(history(self._folder.metrics), self._folder.curves)
        self._is_drawn = True


def describe(means: Mapping[str, float]) -> str:
    """A validation in one line: each head's divergence, with the two baselines behind it."""
    if "mse" in means:
        return f"mse {means['mse']:.4f} (silence {means['mse_silence']:.4f})"
    heads = [measure.removesuffix("/kl") for measure in means if measure.endswith("/kl")]
    return "; ".join(
        f"{head} KL {means[f'{head}/kl']:.4f} (baselines: mean posterior {means[f'{head}/kl_mean']:.4f}, uniform "
        f"{means[f'{head}/kl_uniform']:.4f}), top-1 {means[f'{head}/top1']:.1%}, top-5 {means[f'{head}/top5']:.1%}"
        for head in heads
    )


def history(metrics: Path, until: int | None = None) -> list[dict[str, Any]]:
    """The rows noted so far, up to and with step `until`; a line cut short by a kill is left out."""
    rows = []
    for line in metrics.read_text().splitlines() if metrics.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if until is None or row["step"] <= until:
            rows.append(row)
    return rows


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The training loss, and each head's held-out divergence beside its baselines, from the rows of metrics.jsonl."""
    training = [row for row in rows if "loss" in row]
    validation = [row for row in rows if "validation" in row]
    steps = [row["step"] for row in validation]
    heads = sorted({measure.rpartition("/")[0] for row in validation for measure in row["validation"]})
    figure = Figure(figsize=(5 * (1 + len(heads)), 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(heads), squeeze=False)[0]
    panels[0].plot([row["step"] for row in training], [row["loss"] for row in training], "-o", markersize=3)
    panels[0].set(title="training loss", xlabel="step")
    for head, panel in zip(heads, panels[1:], strict=True):
        for measure, label in (LABELS if head else AUTOENCODER_LABELS).items():
            values = [row["validation"][f"{head}/{measure}" if head else measure] for row in validation]
            style = (
                {"marker": "o", "markersize": 3}
                if label == "student"
                else {"ls": "--", "marker": "_", "markersize": 12}
            )
            panel.plot(steps, values, label=label, **style)
        panel.set(title=f"held out: {head + ' KL' if head else 'mse'}", xlabel="step")
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    if heads:  # beside the panels: within them it would cover a line
        figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
