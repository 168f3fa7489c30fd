"""The benchmarks and experiments of conf/, composed once before Hydra runs the command, and which run fills a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.model import EvaluatedModel
from evaluate.reproduce.paper import BENCHMARKS, TABLES, Row
from evaluate.reproduce.settings import Missing, ReproduceSettings
from pipeline.teachers.spec import TeacherSet
from shards.cli.command import CONF, compose
from shards.errors import require_same
from train.runfolder import RunFolder
from train.settings import TrainSettings


@dataclass(frozen=True)
class Experiments:
    """By the names of their files: benchmarks, the settings of each experiment, and the teacher sets these name."""

    benchmarks: dict[str, BenchmarkSpec]
    settings: dict[str, TrainSettings]
    teachers: dict[str, TeacherSet]

    @classmethod
    def compose(cls, conf: Path = CONF) -> Experiments:
        """Everything that the paper's tables name."""
        rows = [row for table in TABLES for row in table.rows]
        names = {row.name for row in rows if row.origin == "experiment"}
        settings = {
            name: compose(TrainSettings, "train", [f"experiment={name}", "shards=any"], conf) for name in sorted(names)
        }
        sets = {each.teacher_set for each in settings.values() if each.teacher_set is not None}
        return cls(
            {name: compose(BenchmarkSpec, f"benchmark/{name}", conf=conf) for name in BENCHMARKS},
            settings,
            {name: compose(TeacherSet, f"teachers/{name}", conf=conf) for name in sorted(sets)},
        )

    def facts(self, name: str) -> dict[str, Any]:
        """What a checkpoint of this experiment must be: layers, loss and the architecture of each teacher."""
        wanted = self.settings[name]
        facts: dict[str, Any] = {"student": wanted.student.name, "layers": wanted.student.layers}
        if wanted.student.kind == "student":
            facts["loss"] = wanted.loss
        if wanted.teacher_set is not None:
            specs = self.teachers[wanted.teacher_set].active
            facts["teachers"] = {head: specs[head].architecture for head in wanted.learn_from or specs}
        return facts


def checkpoint_of(row: Row, settings: ReproduceSettings) -> Path:
    """The best checkpoint of the row's run, or the published weights. Raises Missing."""
    if row.origin == "published":
        if not settings.published.is_file():
            raise Missing(f"the published weights in {settings.published}", "make published")
        return settings.published
    run = RunFolder(settings.runs / row.name)
    found = next((path for path in (run.best, run.last) if path.is_file()), None)
    if found is None:
        raise Missing(f"a run of experiment {row.name} in {run.path}", f"make train experiment={row.name} shards=...")
    return found


def require_row(row: Row, model: EvaluatedModel, experiments: Experiments) -> None:
    """Raise ContractError where a checkpoint is not what its experiment asks for: layers, loss, heads, teachers."""
    if row.origin == "published":
        return
    checkpoint, wanted = model.checkpoint, experiments.facts(row.name)
    found = {
        "student": checkpoint.spec.name,
        "layers": checkpoint.spec.layers,
        "loss": checkpoint.config.get("loss"),
        "teachers": {head: card.architecture for head, card in checkpoint.teachers.items()},
    }
    remedy = f"Train the row anew: make train experiment={row.name} run=<another folder> shards=..."
    require_same(wanted, {name: found[name] for name in wanted}, str(model.path), remedy)
