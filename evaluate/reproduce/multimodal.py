"""Multi-modal recognition (section 4.3, Table 7): labelled videos classified by sound, by frames, and by both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.model import EvaluatedModel, device_of, run_layers
from evaluate.probe.classifiers import LinearSVM, ScaledSVM
from evaluate.probe.crossvalidation import Source, evaluate_folds
from evaluate.probe.features.windows import Windows
from evaluate.probe.scores import Score
from pipeline.decoder.reader import frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.words import with_text
from shards.errors import UserError
from shards.files import replacing
from shards.media.rejects import UnreadableMedia

FRAMES = 4  # of a video, placed evenly
TRAINING_SHARE = 0.6
SECONDS = 20.0  # of sound that are used: a shorter one is repeated


@dataclass(frozen=True)
class Recognition:
    """Scores by modality (sound, vision, both), beside guessing."""

    scores: dict[str, Score]
    chance: float
    most_frequent: float
    classes: int


def recognise(
    videos: Path, model: EvaluatedModel, teachers: TeacherSet, layer: str, cache: Path, svm: LinearSVM
) -> Recognition:
    """SVMs on the sound's layer, on the teachers' features and on both. Raises UserError."""
    benchmark = labelled_videos(videos)
    recordings = Recordings(benchmark, model.network.sample_rate)
    sound = sound_features(recordings, model, layer)
    vision = visual_features(recordings, teachers, cache, str(device_of(model.network)))
    vectors = {"sound": sound, "vision": vision, "both": np.hstack([sound, vision])}
    owners = np.arange(len(benchmark.recordings))
    scores = {}
    for modality, values in vectors.items():
        windows = Windows(values, owners)
        source = Source(modality, lambda split, windows=windows: {layer: windows})  # type: ignore[misc]
        (scores[modality],) = evaluate_folds(benchmark, source, ScaledSVM(svm))
    guessed = [
        benchmark.labels[each.test] == np.bincount(benchmark.labels[each.train]).argmax() for each in benchmark.splits()
    ]
    most_frequent = float(np.concatenate(guessed).mean())
    return Recognition(scores, 1 / len(benchmark.classes), most_frequent, len(benchmark.classes))


def labelled_videos(videos: Path) -> Benchmark:
    """A CSV file with path and label; without split and fold 60 % of a class train (section 4.3). Raises UserError."""
    spec = BenchmarkSpec("videos", "folder", SECONDS, SECONDS)
    benchmark = load_benchmark(spec, videos)
    if not benchmark.dealt:
        return benchmark
    if any(recording.group for recording in benchmark.recordings):
        raise UserError(
            f"{videos} has groups and no split: give it a column split (train, test) that keeps them together"
        )
    order = np.random.default_rng(0).permutation(len(benchmark.recordings)).tolist()
    recordings: list[Recording] = list(benchmark.recordings)
    for label in range(len(benchmark.classes)):
        own = [index for index in order if recordings[index].label == label]
        if len(own) < 2:
            raise UserError(f"{videos} has one video of {benchmark.classes[label]}: training and testing need one each")
        training = min(len(own) - 1, max(1, round(TRAINING_SHARE * len(own))))
        for position, index in enumerate(own):
            recordings[index] = replace(recordings[index], fold="train" if position < training else "test")
    return replace(benchmark, recordings=tuple(recordings), tested=("test",))


def sound_features(recordings: Recordings, model: EvaluatedModel, layer: str) -> NDArray[np.float32]:
    """A layer's mean over the first 20 s of each video, float32 (videos, channels)."""
    waveforms = (recordings.repeated(index)[: recordings.samples] for index in range(len(recordings.waveforms)))
    return np.stack([run_layers(model.network, each[None], [layer])[layer][0].mean(axis=1) for each in waveforms])


def visual_features(
    recordings: Recordings, teachers: TeacherSet, cache: Path, device: str = "cpu"
) -> NDArray[np.float32]:
    """The teachers' penultimate activations, each the mean over 4 evenly placed frames, side by side."""
    known = with_text(teachers, cards(teachers))
    facts = " ".join([recordings.sha256, *(card.weights_sha256 for card in known.values())])
    path = cache / "vision" / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npy"
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return kept
    networks = [Teacher(spec, known[head], device) for head, spec in teachers.active.items()]
    seconds = [len(waveform) / recordings.sample_rate for waveform in recordings.waveforms]
    paths = [recording.path for recording in recordings.benchmark.recordings]
    vectors = np.stack([_frame_features(*video, networks) for video in zip(paths, seconds, strict=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, "wb") as stream:
        np.save(stream, vectors)
    return vectors


def _frame_features(path: Path, seconds: float, networks: Sequence[Teacher]) -> NDArray[np.float32]:
    """The mean features of one video's frames, all teachers side by side."""
    times = [(index + 0.5) * seconds / FRAMES for index in range(FRAMES)]
    views = [network.transform.view for network in networks]
    try:
        frames = [pictures for _, pictures in frames_at(path, times, views, DecodeSettings())]
    except UnreadableMedia as error:
        raise UserError(f"{path} cannot be read ({error}): take it out of the list of videos") from None
    features = [
        network.features(np.stack(each)) for network, each in zip(networks, zip(*frames, strict=True), strict=True)
    ]
    return np.concatenate([each.mean(axis=0) for each in features])
