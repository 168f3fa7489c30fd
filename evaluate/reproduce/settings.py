"""The settings of `make reproduce`: where data and runs lie, and how classifiers are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evaluate.probe.classifiers import GRID
from evaluate.reproduce.paper import BENCHMARKS
from pipeline.teachers.spec import TeacherSet
from shards.cli.commands import as_called
from shards.cli.settings import unknown
from train.model.layers import StudentSpec

TABLES, FIGURES = (3, 4, 5, 6, 7), (2, 3, 4, 5, 6)  # the paper's, as they are numbered there


@dataclass
class ReproduceSettings:
    """conf/reproduce.yaml."""

    student: StudentSpec  # the network of the baseline `random`
    teachers: TeacherSet  # the teachers whose features of frames Table 7 and Figure 4 are about
    roots: dict[str, Path] = field(default_factory=dict)  # where each benchmark lies
    runs: Path = Path("outputs/runs")  # folder of runs: a row of a table reads <runs>/<experiment>
    published: Path = Path("data/published/soundnet8.pt")  # the authors' weights, of `make published`
    shards: Path | None = None  # a folder of shards with frames, for Figures 2 and 6
    videos: Path | None = None  # a CSV file with path and label, for Table 7 and Figure 4
    tables: list[int] = field(default_factory=lambda: list(TABLES))  # the paper's tables to make
    figures: list[int] = field(default_factory=lambda: list(FIGURES))  # the paper's figures to make
    units: int = 8  # units that Figure 6 shows
    # the SVM's C; null: chosen from `grid` by cross-validation inside the training folds. The authors' scripts have
    # 0.01
    C: float | None = None
    grid: list[float] = field(default_factory=lambda: list(GRID))  # the values that C is chosen from
    seeds: int = 3  # untrained networks of the baseline `random`
    device: str = "auto"  # cpu, cuda, or auto (the GPU where there is one)
    # folder that keeps features, by hashes of checkpoint and data, so that none is computed twice
    cache: Path = Path("outputs/cache")
    out: Path = Path("outputs/reproduce")  # folder of the page

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.units < 1:
            raise ValueError(f"seeds and units are at least 1, not seeds={self.seeds} and units={self.units}")
        for key, given, known in (("tables", self.tables, TABLES), ("figures", self.figures, FIGURES)):
            if missing := sorted(set(given) - set(known)):
                raise ValueError(f"{key}={given}: there is no {missing[0]}, choose among {list(known)}")
        if min([self.C or 1.0, *self.grid]) <= 0 or not self.grid:
            raise ValueError(f"C and grid must be above 0, not C={self.C} and grid={self.grid}")
        for name in sorted(set(self.roots) - set(BENCHMARKS))[:1]:
            raise ValueError(unknown(f"roots.{name}", [f"roots.{each}" for each in BENCHMARKS]))


class Missing(Exception):
    """A cell or figure cannot be made: `what` is the one thing that is not there, `command` what makes it."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(what, command)
        self.what, self.command = what, as_called(command)
