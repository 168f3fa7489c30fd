"""The settings of `make reproduce`: where data and runs lie, and how classifiers are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evaluate.probe.classifiers import GRID
from pipeline.teachers.spec import TeacherSet
from train.model.layers import StudentSpec


@dataclass
class ReproduceSettings:
    """conf/reproduce.yaml."""

    student: StudentSpec  # of the random network
    teachers: TeacherSet  # whose features of frames Table 7 and Figure 4 are about
    roots: dict[str, Path] = field(default_factory=dict)  # benchmark -> where it lies
    runs: Path = Path("outputs/runs")
    published: Path = Path("data/published/soundnet8.pt")
    shards: Path | None = None
    videos: Path | None = None
    tables: list[int] = field(default_factory=lambda: [3, 4, 5, 6, 7])
    figures: list[int] = field(default_factory=lambda: [2, 3, 4, 5, 6])
    units: int = 8
    C: float | None = None
    grid: list[float] = field(default_factory=lambda: list(GRID))
    seeds: int = 3
    device: str = "cpu"
    cache: Path = Path("outputs/cache")
    out: Path = Path("outputs/reproduce")


class Missing(Exception):
    """A cell or figure cannot be made: `what` is the one thing that is not there, `command` what makes it."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(what, command)
        self.what, self.command = what, command
