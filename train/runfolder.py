"""The folder of a run: its name, its lock, the files in it, and the record that a resumed run must agree with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from shards.errors import UserError, require_same
from shards.files import locked, write_whole

RUNS = Path("outputs/runs")
Resume = Literal["auto", "never"]
LONGEST_NAME = 120


class RunFolder:
    """run.json (what was asked), last.pt, best.pt, card.md, metrics.jsonl, validation.json, curves.png; TensorBoard's.

    And skipped-<rank>.jsonl, where clips are damaged and streaming.on_bad_shard=skip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "run.json"
        self.last, self.best = path / "last.pt", path / "best.pt"
        self.metrics, self.validation = path / "metrics.jsonl", path / "validation.json"
        self.trace = path / "trace.json"
        self.curves, self.card = path / "curves.png", path / "card.md"

    def kept(self, step: int) -> Path:
        """The network after so many steps, kept apart from the last and the best."""
        return self.path / f"step-{step:07d}.pt"

    def skipped(self, rank: int) -> Path:
        """The list of damaged clips that this rank has met."""
        return self.path / f"skipped-{rank}.jsonl"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder's lock; the kernel drops it with the process. Raises UserError where another has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock", wait=False, instead="run=another/folder") as held:
            if held is None:
                raise UserError(f"another run is writing into {self.path}: wait for it, or say run=another/folder")
            yield

    def begin(self, record: Mapping[str, Any], resume: Resume) -> None:
        """Write the run's record, or compare it where there is a checkpoint already. Raises UserError."""
        self.require_open(record, resume)
        if not self.last.exists():
            write_whole(self.record, json.dumps(record, indent=1, sort_keys=True).encode())

    def require_open(self, record: Mapping[str, Any], resume: Resume) -> None:
        """Raise UserError where a run of this record may neither begin here nor go on. Nothing is written."""
        if not self.last.exists():
            left = [path.name for path in (self.best, self.card) if path.exists()]  # of a run that has saved something
            if left:
                raise UserError(
                    f"{self.path} holds {', '.join([*left, self.metrics.name])} of an earlier run, but no "
                    f"{self.last.name} to go on from: put it back, or begin a new run with run=another/folder"
                )
            return
        if resume == "never":
            raise UserError(
                f"{self.path} holds a run already: resume=auto goes on with it, run=another/folder begins a new one"
            )
        try:
            found = json.loads(self.record.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.record} cannot be read ({error}): say run=another/folder") from None
        remedy = "Go on with the settings this run was begun with, or begin another: run=another/folder."
        require_same(json.loads(json.dumps(record)), found, str(self.path), remedy)


def name_run(main: list[str], differing: Mapping[str, Any], deciding: Mapping[str, Any]) -> Path:
    """outputs/runs/<what is trained>-<what differs from the defaults>-<hash of what decides the weights>.

    The hash keeps the jobs of a sweep apart; the words are for reading.
    """
    words = [*main, *(f"{key.rpartition('.')[2]}={value}" for key, value in differing.items())]
    readable = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "-".join(words))[:LONGEST_NAME]
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return RUNS / f"{readable}-{digest}"
