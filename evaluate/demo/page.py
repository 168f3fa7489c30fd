"""The demo's page: from videos to shards, student, scores and figures, in one file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from evaluate.demo.results import Evidence, HeldOut, Probe
from evaluate.figures.confusion import draw_confusion
from evaluate.figures.filters import draw_filters
from evaluate.figures.units import find_units
from evaluate.model import EvaluatedModel
from evaluate.probe.scores import Scores
from evaluate.reproduce.figures import LAYER, moment_of
from pipeline.output.account import account_of
from pipeline.report.clip import clip_view, data_url
from pipeline.report.page import STYLE, template
from pipeline.report.sample import evenly, sampled, teacher_heads
from shards.files import write_whole
from shards.format.manifest import Manifest
from train.runfolder import RunFolder

TEMPLATE = "page.html.j2"
CLIPS = 8  # shown, at equal distances through all shards
UNITS = 4  # the most selective ones, each with the moments that excite it most


def write_page(
    page: Path, *, shards: Path, run: Path, scores: Path, evidence: Path, head: str, origin: str, took: str
) -> Path:
    """Write the page; `origin` says in a few words where the videos come from, `took` how long all took.

    Raises UserError or DamagedExample where an artifact is missing or not what it should be.
    """
    folder, manifest = RunFolder(run), Manifest.load(shards)
    survey = account_of(shards, manifest.clip)
    shown = sampled(shards, evenly(survey.shard_clips, CLIPS), teacher_heads(shards, manifest))
    model = EvaluatedModel.load(folder.last)
    found = Scores.load(scores)
    probe, weighed = Probe.of(found), Evidence.load(evidence, head)
    units = find_units(model.network, LAYER, shards, UNITS)
    html = template(TEMPLATE, Path(__file__).parent, STYLE).render(
        origin=origin,
        took=took,
        survey=survey,
        clip=manifest.clip,
        teacher=manifest.teachers[head],
        clips=[clip_view(shard, clip, manifest.clip) for shard, clip in shown],
        report=_link(page, shards / "report.html"),
        model=model,
        held_out=HeldOut.load(folder.validation, head),
        curves=data_url("image/png", folder.curves.read_bytes()),
        probe=probe,
        confusion=data_url("image/png", draw_confusion(probe.student.confusion, found.classes)),
        evidence=weighed.sentences,
        evidence_picture=data_url("image/png", weighed.picture),
        filters=data_url("image/png", draw_filters(model.network)),
        layer=LAYER,
        units=[(unit, [moment_of(shards, model, peak) for peak in unit.peaks]) for unit in units],
    )
    write_whole(page, html.encode())
    return page


def _link(page: Path, target: Path) -> str:
    """The way from the page to a file beside or below it; empty where there is no such file."""
    is_near = target.is_file() and target.resolve().is_relative_to(page.parent.resolve())
    return target.resolve().relative_to(page.parent.resolve()).as_posix() if is_near else ""
