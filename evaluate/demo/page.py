"""The demo's page: from videos to shards, student, scores and figures, in one file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from evaluate.demo.results import HeldOut, Probe
from evaluate.figures.confusion import draw_confusion
from evaluate.figures.filters import draw_filters
from evaluate.figures.units import Unit, find_units
from evaluate.model import EvaluatedModel
from evaluate.probe.scores import Scores
from evaluate.reproduce.figures import LAYER, Moment, moment_of
from pipeline.output.account import Account, account_of
from pipeline.report.clip import ClipView, clip_view, data_url
from pipeline.report.page import STYLE, template
from pipeline.report.sample import evenly, sampled, teacher_heads
from shards.files import write_whole
from shards.format.manifest import Manifest
from train.runfolder import RunFolder

TEMPLATE = "page.html.j2"
EXHIBITS = 8  # clips shown
UNITS = 4


def write_story(page: Path, *, shards: Path, run: Path, scores: Path, head: str, origin: str) -> Path:
    """Write the page; `origin` says in a few words where the videos come from, and stands at its top.

    Raises UserError or DamagedExample where an artifact is missing or not what it should be.
    """
    folder, manifest = RunFolder(run), Manifest.load(shards)
    survey = account_of(shards, manifest.clip)
    subject = EvaluatedModel.load(folder.last)
    found = Scores.load(scores)
    probe = Probe.of(found)
    told = template(TEMPLATE, Path(__file__).parent, STYLE).render(
        origin=origin,
        survey=survey,
        clip=manifest.clip,
        teacher=manifest.teachers[head],
        exhibits=_exhibits(shards, manifest, survey),
        report=_link(page, shards / "report.html"),
        subject=subject,
        held_out=HeldOut.load(folder.validation, head),
        curves=data_url("image/png", folder.curves.read_bytes()),
        probe=probe,
        confusion=data_url("image/png", draw_confusion(probe.student.confusion, found.classes)),
        filters=data_url("image/png", draw_filters(subject.network)),
        layer=LAYER,
        units=_units(shards, subject),
    )
    write_whole(page, told.encode())
    return page


def _exhibits(shards: Path, manifest: Manifest, survey: Account) -> list[ClipView]:
    """Clips at equal distances through all shards."""
    chosen = sampled(shards, evenly(survey.shard_clips, EXHIBITS), teacher_heads(shards, manifest))
    return [clip_view(shard, clip, manifest.clip) for shard, clip in chosen]


def _units(shards: Path, subject: EvaluatedModel) -> list[tuple[Unit, list[Moment]]]:
    """The most selective hidden units, each with the moments that excite it most."""
    units = find_units(subject.network, LAYER, shards, UNITS)
    return [(unit, [moment_of(shards, subject, peak) for peak in unit.peaks]) for unit in units]


def _link(page: Path, target: Path) -> str:
    """The way from the page to a file beside or below it; empty where there is no such file."""
    is_near = target.is_file() and target.resolve().is_relative_to(page.parent.resolve())
    return target.resolve().relative_to(page.parent.resolve()).as_posix() if is_near else ""
