"""The figures of the page: each drawn if what it needs is at hand, or the one thing that is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evaluate.benchmarks.recordings import Recordings
from evaluate.figures.confusion import draw_confusion, worst_confusions
from evaluate.figures.filters import draw_filters
from evaluate.figures.tsne import draw_embeddings
from evaluate.figures.units import CLIPS_PER_UNIT, Peak, Unit, excerpt, find_units
from evaluate.model import EvaluatedModel
from evaluate.probe.score_cache import remembered
from evaluate.reproduce.cells import probe_of
from evaluate.reproduce.experiments import Experiments, checkpoint_of
from evaluate.reproduce.multimodal import labelled_videos, sound_features, visual_features
from evaluate.reproduce.paper import Column, Row
from evaluate.reproduce.settings import Missing, ReproduceSettings
from pipeline.report.clip import ClipView, data_url, exhibit_of
from pipeline.report.sample import SampledShard, evenly, sampled, teacher_heads
from pipeline.report.sound import playable, spectrogram
from shards.errors import UserError
from shards.format.codec import DamagedExample
from shards.format.manifest import Manifest
from shards.format.sidefile import finished

EXHIBITS = 12  # clips of Figure 2
# Whose network is looked into: the first of these that is there.
SUBJECTS = (
    Row("the VGG run", (), "experiment", "soundnet8_vgg16"),
    Row("the AlexNet run", (), "experiment", "soundnet8_alexnet"),
    Row("the published weights", (), "published"),
)
LAYER = "conv7"  # of Figures 4 and 6, the last hidden one


@dataclass(frozen=True)
class Moment:
    """A clip that excites a unit: what is heard, and the frames that were kept."""

    path: str
    activation: float
    audio: str
    spectrogram: str
    frames: list[str]


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it. Addresses are data: URLs."""

    number: int
    title: str
    caption: str = ""
    image: str = ""
    exhibits: list[ClipView] = field(default_factory=list)
    units: list[tuple[Unit, list[Moment]]] = field(default_factory=list)
    missing: str = ""
    command: str = ""


def draw(number: int, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """One of the paper's figures."""
    title, make = FIGURES[number]
    try:
        return make(Picture(number, title), settings, plans)
    except Missing as missing:
        return Picture(number, title, missing=missing.what, command=missing.command)
    except (UserError, DamagedExample) as error:
        return Picture(number, title, missing=str(error))


def _frames(picture: Picture, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """Figure 2: frames with what the teachers saw in them."""
    shards = _shards(settings)
    manifest = Manifest.load(shards)
    picks = evenly([(side.shard, len(side.keys)) for side in finished(shards)], EXHIBITS)
    heads = teacher_heads(shards, manifest)
    exhibits = [exhibit_of(shard, clip, manifest.clip) for shard, clip in sampled(shards, picks, heads)]
    exhibits = [each for each in exhibits if each.windows[0].frames]
    if not exhibits:
        raise Missing(
            f"kept frames in {shards}", "make teacher-shards keep_frames=true shards=<a new folder> videos=..."
        )
    caption = "One window of a clip each, with the first choice of every teacher."
    return _with(picture, caption, exhibits=exhibits)


def _confusions(picture: Picture, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """Figure 3: the confusion matrix on ESC-50; on ESC-10 where that is all there is."""
    subject = _subject(settings)
    name = next((name for name in ("esc50", "esc10") if settings.roots.get(name, Path("?")).exists()), "esc50")
    probe = probe_of(Row("", (), "published", benchmark=name), Column(""), settings, plans)
    probe.checkpoint, probe.layers, probe.baselines = subject.path, ["pool5"], []
    scores = remembered(probe)
    (score,) = scores.scores
    worst = "; ".join(
        f"{true} taken for {said} ({count})" for true, said, count in worst_confusions(score.confusion, scores.classes)
    )
    caption = (
        f"{name}, pool5 of {subject.path.name} ({subject.provenance}): {score.accuracy:.1%}. Most frequent: {worst}."
    )
    return _with(picture, caption, image=draw_confusion(score.confusion, scores.classes))


def _embeddings(picture: Picture, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """Figure 4: labelled videos, seen and heard."""
    if settings.videos is None or not settings.videos.is_file():
        raise Missing("labelled videos", "make reproduce videos=<a CSV file with path and label>")
    subject, benchmark = _subject(settings), labelled_videos(settings.videos)
    sounds = Recordings(benchmark, subject.network.sample_rate)
    vectors = {
        "visual features": visual_features(sounds, settings.teachers, settings.cache, settings.device),
        f"sound features ({LAYER})": sound_features(sounds, subject, LAYER, settings.device),
    }
    caption = f"{len(benchmark.recordings)} videos, t-SNE; {subject.path.name} ({subject.provenance})."
    return _with(picture, caption, image=draw_embeddings(vectors, benchmark.labels, benchmark.classes))


def _filters(picture: Picture, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """Figure 5: the filters of conv1."""
    subject = _subject(settings)
    source = f"{subject.path.name} ({subject.provenance})"
    caption = f"In time and, below, in frequency; the title is the loudest frequency. {source}."
    return _with(picture, caption, image=draw_filters(subject.network))


def _units(picture: Picture, settings: ReproduceSettings, plans: Experiments) -> Picture:
    """Figure 6: what excites hidden units."""
    shards, subject = _shards(settings), _subject(settings)
    units = find_units(subject.network, LAYER, shards, settings.units, settings.device)
    shown = [(unit, [moment_of(shards, subject, peak) for peak in unit.peaks]) for unit in units]
    caption = (
        f"The {len(shown)} units of {LAYER} whose {CLIPS_PER_UNIT} strongest clips stand out most in {shards.name}; "
        f"{subject.path.name} ({subject.provenance}). The network heard only the sound."
    )
    return _with(picture, caption, units=shown)


def moment_of(shards: Path, subject: EvaluatedModel, peak: Peak) -> Moment:
    """A peak of a unit of LAYER, as it is heard and was seen. Raises DamagedExample."""
    rate = subject.network.sample_rate
    example = SampledShard(shards, peak.shard, []).example(peak.clip, rate)
    sound = excerpt(subject.network, LAYER, example, peak.step)
    return Moment(
        path=example.meta.path,
        activation=peak.activation,
        audio=data_url(*playable(sound, rate)),
        spectrogram=data_url("image/png", spectrogram(sound, rate)),
        frames=[data_url("image/jpeg", jpeg) for jpeg in example.frames[:1]],
    )


FIGURES: dict[int, tuple[str, Callable[[Picture, ReproduceSettings, Experiments], Picture]]] = {
    2: ("Frames of the unlabeled videos, named by the teachers", _frames),
    3: ("Confusions", _confusions),
    4: ("t-SNE of visual and sound features", _embeddings),
    5: ("Filters learned in conv1", _filters),
    6: ("What emerges in hidden units", _units),
}


def _with(
    picture: Picture,
    caption: str,
    *,
    image: bytes = b"",
    exhibits: list[ClipView] | None = None,
    units: list[tuple[Unit, list[Moment]]] | None = None,
) -> Picture:
    address = data_url("image/png", image) if image else ""
    return Picture(picture.number, picture.title, caption, address, exhibits or [], units or [])


def _shards(settings: ReproduceSettings) -> Path:
    if settings.shards is None:
        raise Missing("a folder of shards", "make reproduce shards=<a folder of make teacher-shards>")
    return settings.shards


def _subject(settings: ReproduceSettings) -> EvaluatedModel:
    """The network to look into. Raises Missing where none of the candidates is there."""
    for row in SUBJECTS:
        try:
            return EvaluatedModel.load(checkpoint_of(row, settings), settings.device)
        except Missing as missing:
            last = missing
    raise last
