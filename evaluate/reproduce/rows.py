"""From a row to its checkpoint: the run of its experiment, refused where it was trained in another way."""

from __future__ import annotations

from pathlib import Path

from evaluate.model import Subject
from evaluate.reproduce.experiments import Plans
from evaluate.reproduce.paper import Row
from evaluate.reproduce.settings import Missing, ReproduceSettings
from shards.format.manifest import require_same
from train.runfolder import RunFolder


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


def require_row(row: Row, subject: Subject, plans: Plans) -> None:
    """Raise ContractError where a checkpoint is not what its experiment asks for: layers, loss, heads, teachers."""
    if row.origin == "published":
        return
    checkpoint, wanted = subject.checkpoint, plans.facts(row.name)
    found = {
        "student": checkpoint.spec.name,
        "layers": checkpoint.spec.layers,
        "loss": checkpoint.config.get("loss"),
        "teachers": {head: card.architecture for head, card in checkpoint.teachers.items()},
    }
    remedy = f"Train the row anew: make train experiment={row.name} run=<another folder> shards=..."
    require_same(wanted, {name: found[name] for name in wanted}, str(subject.path), remedy)
