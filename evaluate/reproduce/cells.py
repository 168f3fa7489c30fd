"""A table's cells: our number beside the paper's, or the one thing that is missing and the command that makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.model import EvaluatedModel
from evaluate.probe.classifiers import LinearSVM
from evaluate.probe.run import EvaluateSettings
from evaluate.probe.scores import Scores, wilson
from evaluate.reproduce.experiments import Experiments, checkpoint_of, require_row
from evaluate.reproduce.multimodal import recognise
from evaluate.reproduce.paper import LAYERS, Column, Row, Table
from evaluate.reproduce.score_cache import cached_scores
from evaluate.reproduce.settings import Missing, ReproduceSettings
from shards.cli.words import amount
from shards.errors import UserError

MFCC = "ours: frames of 1,024 samples at 22,050 Hz, and the differences of the coefficients beside what [28] has"


@dataclass(frozen=True)
class Cell:
    """Shares of 1. `ours` is None where something is `missing`, and for what the paper quotes from others."""

    paper: float | None = None
    ours: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""  # how far the checkpoint was trained and by whom
    missing: str = ""
    command: str = ""


@dataclass(frozen=True)
class Filled:
    """A table with our numbers, row by row."""

    table: Table
    cells: list[list[Cell]]


def fill(table: Table, settings: ReproduceSettings, experiments: Experiments) -> Filled:
    """Every cell that the checkpoints and data at hand allow."""
    return Filled(
        table,
        [
            [_cell(row, column, settings, experiments, at) for at, column in enumerate(table.columns)]
            for row in table.rows
        ],
    )


def _cell(row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments, at: int) -> Cell:
    printed = row.paper[at]
    paper = None if printed is None else printed / 100
    if row.origin == "literature":
        return Cell(paper)
    try:
        make = _of_videos if column.modality else ORIGINS[row.origin]
        return replace(make(row, column, settings, experiments), paper=paper)
    except Missing as missing:
        return Cell(paper, missing=missing.what, command=missing.command)
    except UserError as error:
        return Cell(paper, missing=str(error))


def probes_of(
    row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments
) -> tuple[list[EvaluateSettings], str]:
    """The evaluations that a cell needs, none where it is made otherwise, and the cell's note.

    Raises Missing, and UserError for a checkpoint that does not go with the row.
    """
    if row.origin not in PROBED or column.modality:
        return [], ""
    if row.origin in ("experiment", "published"):
        require_data(row, column, settings, experiments)
        path = checkpoint_of(row, settings)
        model = EvaluatedModel.load(path)
        require_row(row, model, experiments)
        # All layers of a row of Table 6 are computed in one pass.
        layers = list(LAYERS) if column.layer else [row.layer]
        return [probe_of(row, column, settings, experiments, checkpoint=path, layers=layers)], model.provenance
    probe = probe_of(row, column, settings, experiments, layers=[row.layer], baselines=[row.origin])
    if row.origin == "random":
        return [replace(probe, seed=seed, seeds=1) for seed in range(settings.seeds)], ""
    return [probe], MFCC


def _of_probes(row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments) -> Cell:
    """The classifier on a layer of a network, or on MFCC statistics. Of random networks the mean over their seeds.

    What is doubtful about C or the solver is part of the note.
    """
    probes, note = probes_of(row, column, settings, experiments)
    wanted = (column.layer or row.layer, None)  # MFCC statistics are of no layer
    scores = [score for probe in probes for score in cached_scores(probe).scores if score.layer in wanted]
    doubts = list(dict.fromkeys(remark for score in scores for remark in score.remarks))
    if row.origin != "random":
        (score,) = scores
        return Cell(ours=score.value, interval=score.interval, note="; ".join(filter(None, [note, *doubts])))
    values = [score.value for score in scores]
    mean, tested = sum(values) / len(values), scores[0].recordings
    spread = f"{amount(len(scores), 'seed')}, {min(values):.1%} to {max(values):.1%}"
    # All networks are tested on the same recordings: their mean is taken for no more certain than one of them.
    return Cell(ours=mean, interval=wilson(mean * tested, tested), note="; ".join([spread, *doubts]))


def _of_supervised(row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments) -> Cell:
    """What `make supervised` has left."""
    folder = settings.runs / f"supervised-{row.name}-{column.benchmark}"
    if not (folder / "scores.json").is_file():
        raise Missing(
            f"the supervised networks in {folder}",
            f"make supervised benchmark={column.benchmark} root={settings.roots[column.benchmark]} student={row.name}",
        )
    scores = Scores.load(folder)
    (score,) = scores.scores
    steps = (scores.checkpoint or {}).get("config", {}).get("steps", 0)
    counted = "1 step" if steps == 1 else f"{steps:,} steps"
    return Cell(ours=score.value, interval=score.interval, note=f"{counted} for each fold")


def _of_videos(row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments) -> Cell:
    """Table 7: the labelled videos of `videos=...`."""
    if settings.videos is None or not settings.videos.is_file():
        raise Missing("labelled videos", "make reproduce videos=<a CSV file with path and label>")
    model = EvaluatedModel.load(checkpoint_of(row, settings), settings.device)
    require_row(row, model, experiments)
    svm = LinearSVM(settings.C, tuple(settings.grid))
    found = recognise(settings.videos, model, settings.teachers, row.layer, settings.cache, svm)
    score = found.scores[column.modality]
    chance = f"chance {found.chance:.1%}, most frequent {found.most_frequent:.1%}"
    note = f"{amount(score.recordings, 'video')} of {found.classes} classes, {chance}; {model.provenance}"
    return Cell(ours=score.value, interval=score.interval, note=note)


PROBED = ("experiment", "published", "mfcc", "forest", "random")
ORIGINS: dict[str, Callable[[Row, Column, ReproduceSettings, Experiments], Cell]] = {
    **dict.fromkeys(PROBED, _of_probes),
    "supervised": _of_supervised,
}


def probe_of(
    row: Row,
    column: Column,
    settings: ReproduceSettings,
    experiments: Experiments,
    *,
    layers: list[str],
    checkpoint: Path | None = None,
    baselines: Sequence[str] = (),
) -> EvaluateSettings:
    """The settings of `make eval-...` for a cell. Raises Missing where the data set is not there."""
    spec, root = require_data(row, column, settings, experiments)
    return EvaluateSettings(
        spec,
        root,
        settings.student,
        checkpoint,
        layers=layers,
        baselines=list(baselines),  # type: ignore[arg-type]
        C=settings.C,
        grid=settings.grid,
        device=settings.device,
        cache=settings.cache,
    )


def require_data(
    row: Row, column: Column, settings: ReproduceSettings, experiments: Experiments
) -> tuple[BenchmarkSpec, Path]:
    """A cell's benchmark and where it lies. Raises Missing where it is not there."""
    name = row.benchmark or column.benchmark
    spec, root = experiments.benchmarks[name], settings.roots.get(name, Path("data") / name)
    if not root.exists():
        raise Missing(
            f"the data set {name} in {root}", f"get {spec.source}, then make reproduce roots.{name}=<its folder>"
        )
    return spec, root
