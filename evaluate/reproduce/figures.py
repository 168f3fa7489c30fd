"""The figures of the page: each drawn if what it needs is at hand, or the one thing that is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from evaluate.benchmarks.recordings import Recordings
from evaluate.figures.confusion import draw_confusion, worst_confusions
from evaluate.figures.filters import draw_filters
from evaluate.figures.tsne import draw_embeddings
from evaluate.figures.units import CLIPS_PER_UNIT, Peak, Unit, excerpt, find_units
from evaluate.model import EvaluatedModel
from evaluate.probe.run import EvaluateSettings
from evaluate.reproduce.cells import probe_of
from evaluate.reproduce.experiments import Experiments, checkpoint_of
from evaluate.reproduce.multimodal import labelled_videos, sound_features, visual_features
from evaluate.reproduce.paper import Column, Row
from evaluate.reproduce.score_cache import cached_scores
from evaluate.reproduce.settings import Missing, ReproduceSettings
from pipeline.report.clip import ClipView, clip_view, cut_frames, data_url
from pipeline.report.sample import SampledShard, evenly, sampled, teacher_heads
from pipeline.report.sound import playable, spectrogram
from shards.cli.words import amount
from shards.errors import UserError
from shards.format.manifest import Manifest
from shards.format.members import DamagedExample
from shards.format.sidefile import finished

CLIPS = 12  # clips of Figure 2
# Whose network Figures 3 to 6 are of: the first of these that is there.
CANDIDATES = (
    Row("the VGG run", (), "experiment", "soundnet8_vgg16"),
    Row("the AlexNet run", (), "experiment", "soundnet8_alexnet"),
    Row("the published weights", (), "published"),
)
LAYER = "conv7"  # of Figures 4 and 6, the last hidden one


@dataclass(frozen=True)
class Moment:
    """An excerpt that excites a unit: its sound, and the frame that was kept."""

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
    clips: list[ClipView] = field(default_factory=list)
    units: list[tuple[Unit, list[Moment]]] = field(default_factory=list)
    missing: str = ""
    command: str = ""


def draw(number: int, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """One of the paper's figures."""
    title, make = FIGURES[number]
    try:
        return make(Picture(number, title), settings, experiments)
    except Missing as missing:
        return Picture(number, title, missing=missing.what, command=missing.command)
    except (UserError, DamagedExample) as error:
        return Picture(number, title, missing=str(error))


def _frames(picture: Picture, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """Figure 2: frames with what the teachers saw in them."""
    shards = _shards(settings)
    manifest = Manifest.load(shards)
    picks = evenly([(side.shard, len(side.keys)) for side in finished(shards)], CLIPS)
    heads = teacher_heads(shards, manifest)
    clips = [clip_view(shard, clip, manifest.clip) for shard, clip in sampled(shards, picks, heads)]
    clips = [each for each in clips if each.windows[0].frames]
    if not clips:
        raise Missing(
            f"kept frames in {shards}", "make teacher-shards keep_frames=true shards=<a new folder> videos=..."
        )
    caption = "One window of a clip each, with the first choice of every teacher."
    return replace(picture, caption=caption, clips=clips)


def _confusions(picture: Picture, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """Figure 3: the confusion matrix."""
    probe = confusion_probe(settings, experiments)
    scores = cached_scores(probe)
    (score,) = scores.scores
    worst = "; ".join(
        f"{true} taken for {predicted} ({count})"
        for true, predicted, count in worst_confusions(
            score.confusion, [each.replace("_", " ") for each in scores.classes]
        )
    )
    caption = f"{scores.benchmark}, pool5 of {_model(settings)}: {score.value:.1%}. Most frequent: {worst}."
    image = data_url("image/png", draw_confusion(score.confusion, scores.classes))
    return replace(picture, caption=caption, image=image)


def confusion_probe(settings: ReproduceSettings, experiments: Experiments) -> EvaluateSettings:
    """The evaluation behind Figure 3: on ESC-50; on ESC-10 where that is all there is. Raises Missing."""
    name = next((name for name in ("esc50", "esc10") if settings.roots.get(name, Path("?")).exists()), "esc50")
    row = Row("", (), "published", benchmark=name)
    path = _model(settings).path
    return probe_of(row, Column(""), settings, experiments, checkpoint=path, layers=["pool5"])


def _embeddings(picture: Picture, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """Figure 4: labelled videos by their frames and by their sound."""
    if settings.videos is None or not settings.videos.is_file():
        raise Missing("labelled videos", "make reproduce videos=<a CSV file with path and label>")
    model, benchmark = _model(settings), labelled_videos(settings.videos)
    recordings = Recordings(benchmark, model.network.sample_rate)
    vectors = {
        "visual features": visual_features(recordings, settings.teachers, settings.cache, settings.device),
        f"sound features ({LAYER})": sound_features(recordings, model, LAYER),
    }
    caption = f"{amount(len(benchmark.recordings), 'video')}, t-SNE; {model}."
    image = data_url("image/png", draw_embeddings(vectors, benchmark.labels, benchmark.classes))
    return replace(picture, caption=caption, image=image)


def _filters(picture: Picture, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """Figure 5: the filters of conv1."""
    model = _model(settings)
    caption = f"In time and, below, in frequency; the title is the loudest frequency. {model}."
    return replace(picture, caption=caption, image=data_url("image/png", draw_filters(model.network)))


def _units(picture: Picture, settings: ReproduceSettings, experiments: Experiments) -> Picture:
    """Figure 6: what excites hidden units."""
    shards, model = _shards(settings), _model(settings)
    units = find_units(model.network, LAYER, shards, settings.units)
    shown = [(unit, [moment_of(shards, model, peak) for peak in unit.peaks]) for unit in units]
    fewest = min((len(unit.peaks) for unit in units), default=0)
    few = "" if fewest == CLIPS_PER_UNIT else f"; there are clips of only {amount(fewest, 'video')}"
    caption = (
        f"The {amount(len(shown), 'unit')} of {LAYER} whose {CLIPS_PER_UNIT} strongest clips, one of each video{few}, "
        f"stand out most in {shards.name}; {model}. The network heard only the sound."
    )
    return replace(picture, caption=caption, units=shown)


def moment_of(shards: Path, model: EvaluatedModel, peak: Peak) -> Moment:
    """The excerpt around a peak of a unit of LAYER. Raises DamagedExample."""
    rate = model.network.sample_rate
    example = SampledShard(shards, peak.shard, []).example(peak.clip, rate)
    sound = excerpt(model.network, LAYER, example, peak.step)
    jpegs = cut_frames(example.frames, len(example.meta.frame_got))
    return Moment(
        path=example.meta.path,
        activation=peak.activation,
        audio=data_url(*playable(sound, rate)),
        spectrogram=data_url("image/png", spectrogram(sound, rate)),
        frames=[data_url("image/jpeg", jpeg) for jpeg in jpegs[:1]],
    )


FIGURES: dict[int, tuple[str, Callable[[Picture, ReproduceSettings, Experiments], Picture]]] = {
    2: ("Frames of the unlabeled videos, named by the teachers", _frames),
    3: ("Confusions", _confusions),
    4: ("t-SNE of visual and sound features", _embeddings),
    5: ("Filters learned in conv1", _filters),
    6: ("What emerges in hidden units", _units),
}


def _shards(settings: ReproduceSettings) -> Path:
    if settings.shards is None:
        raise Missing("a folder of shards", "make reproduce shards=<a folder of make teacher-shards>")
    return settings.shards


def _model(settings: ReproduceSettings) -> EvaluatedModel:
    """The network of Figures 3 to 6. Raises Missing where none of the candidates is there."""
    for row in CANDIDATES:
        try:
            return EvaluatedModel.load(checkpoint_of(row, settings), settings.device)
        except Missing as missing:
            last = missing
    raise last
