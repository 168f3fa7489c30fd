"""What conf/ says of benchmarks and experiments: composed once, before Hydra runs the command itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.reproduce.paper import TABLES
from pipeline.teachers.spec import TeacherSet
from shards.cli.command import CONF, compose
from train.settings import TrainSettings


@dataclass(frozen=True)
class Plans:
    """Benchmarks and experiments by the names of their files, teacher sets by theirs."""

    benchmarks: dict[str, BenchmarkSpec]
    experiments: dict[str, TrainSettings]
    teachers: dict[str, TeacherSet]

    @classmethod
    def compose(cls, conf: Path = CONF) -> Plans:
        """Everything that the paper's tables name."""
        rows = [row for table in TABLES for row in table.rows]
        columns = [column for table in TABLES for column in table.columns]
        benchmarks = {row.benchmark for row in rows} | {column.benchmark for column in columns}
        names = {row.name for row in rows if row.origin == "experiment"}
        experiments = {
            name: compose(TrainSettings, "train", [f"experiment={name}", "shards=any"], conf) for name in sorted(names)
        }
        sets = {each.teacher_set for each in experiments.values() if each.teacher_set is not None}
        return cls(
            {name: compose(BenchmarkSpec, f"benchmark/{name}", conf=conf) for name in sorted(benchmarks - {""})},
            experiments,
            {name: compose(TeacherSet, f"teachers/{name}", conf=conf) for name in sorted(sets)},
        )

    def facts(self, name: str) -> dict[str, Any]:
        """What a checkpoint of this experiment must be: layers, loss and teachers, in plain words."""
        wanted = self.experiments[name]
        facts: dict[str, Any] = {"student": wanted.student.name, "layers": wanted.student.layers}
        if wanted.student.kind == "student":
            facts["loss"] = wanted.loss
        if wanted.teacher_set is not None:
            specs = self.teachers[wanted.teacher_set].active
            facts["teachers"] = {head: specs[head].architecture for head in wanted.learn_from or specs}
        return facts
