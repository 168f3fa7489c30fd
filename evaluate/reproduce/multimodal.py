"""Sound against sight (section 4.3, Table 7): labelled videos classified by what is heard, what is seen, and both."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Recording
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.model import EvaluatedModel
from evaluate.probe.classifiers import ScaledSVM
from evaluate.probe.crossvalidation import Source, evaluate_folds
from evaluate.probe.scores import Score
from evaluate.probe.windows import Windows
from pipeline.decoder.reader import frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet
from pipeline.teachers.teacher import Teacher
from shards.errors import UserError
from shards.media.file import UnreadableMedia
from train.model.student import scaled

FRAMES = 4  # of a video, placed evenly
TRAINING_SHARE = 0.6
SECONDS = 20.0  # of sound that are heard: a shorter one is repeated


@dataclass(frozen=True)
class Recognition:
    """Scores by modality (sound, vision, both), beside what needs neither eyes nor ears."""

    scores: dict[str, Score]
    chance: float
    most_frequent: float
    classes: int


def recognise(
    videos: Path, subject: EvaluatedModel, teachers: TeacherSet, layer: str, cache: Path, device: str = "cpu"
) -> Recognition:
    """SVMs on the sound's layer, on the teachers' features and on both. Raises UserError."""
    benchmark = labelled_videos(videos)
    sounds = Recordings(benchmark, subject.network.sample_rate)
    heard = sound_features(sounds, subject, layer, device)
    seen = visual_features(sounds, teachers, cache, device)
    vectors = {"sound": heard, "vision": seen, "both": np.hstack([heard, seen])}
    owners = np.arange(len(benchmark.recordings))
    scores = {}
    for modality, values in vectors.items():
        windows = Windows(values, owners)
        source = Source(modality, lambda split, windows=windows: {layer: windows})  # type: ignore[misc]
        (scores[modality],) = evaluate_folds(benchmark, source, ScaledSVM())
    tested = Counter(benchmark.labels[benchmark.folds == "test"].tolist())
    training = Counter(benchmark.labels[benchmark.folds == "train"].tolist())
    ((commonest, _),) = training.most_common(1)
    return Recognition(scores, 1 / len(benchmark.classes), tested[commonest] / tested.total(), len(benchmark.classes))


def labelled_videos(videos: Path) -> Benchmark:
    """A CSV file with path and label; without a split, 60 % of each class train (section 4.3). Raises UserError."""
    spec = BenchmarkSpec("videos", "folder", SECONDS, SECONDS)
    benchmark = load_benchmark(spec, videos)
    if benchmark.tested == ("test",):
        return benchmark
    order = np.random.default_rng(0).permutation(len(benchmark.recordings)).tolist()
    recordings: list[Recording] = list(benchmark.recordings)
    for label in range(len(benchmark.classes)):
        own = [index for index in order if recordings[index].label == label]
        if len(own) < 2:
            raise UserError(f"{videos} has one video of {benchmark.classes[label]}: training and testing need one each")
        training = min(len(own) - 1, max(1, round(TRAINING_SHARE * len(own))))
        for position, index in enumerate(own):
            recordings[index] = replace(recordings[index], fold="train" if position < training else "test")
    return Benchmark(spec, benchmark.classes, tuple(recordings), ("test",))


def sound_features(sounds: Recordings, subject: EvaluatedModel, layer: str, device: str = "cpu") -> NDArray[np.float32]:
    """A layer's mean over the first 20 s of each video, float32 (videos, channels)."""
    vectors = []
    for index in range(len(sounds.waveforms)):
        waveform = torch.from_numpy(sounds.repeated(index)[: sounds.samples])[None].to(device)
        with torch.inference_mode():
            vectors.append(subject.network.features(scaled(waveform), [layer])[layer][0].mean(dim=1).cpu().numpy())
    return np.stack(vectors)


def visual_features(sounds: Recordings, teachers: TeacherSet, cache: Path, device: str = "cpu") -> NDArray[np.float32]:
    """The teachers' penultimate activations, each the mean over 4 evenly placed frames, side by side."""
    known = cards(teachers)
    facts = " ".join([sounds.sha256, *(card.weights_sha256 for card in known.values())])
    path = cache / "vision" / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npy"
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return kept
    networks = [Teacher(spec, known[head], device) for head, spec in teachers.active.items()]
    seconds = [len(waveform) / sounds.sample_rate for waveform in sounds.waveforms]
    paths = [recording.path for recording in sounds.benchmark.recordings]
    vectors = np.stack([_look(*video, networks) for video in zip(paths, seconds, strict=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as stream:
        np.save(stream, vectors)
    os.replace(partial, path)
    return vectors


def _look(path: Path, seconds: float, networks: Sequence[Teacher]) -> NDArray[np.float32]:
    """The mean features of one video's frames, all teachers side by side."""
    times = [(index + 0.5) * seconds / FRAMES for index in range(FRAMES)]
    views = [network.transform.view for network in networks]
    try:
        frames = [pictures for _, pictures in frames_at(path, times, views, DecodeSettings())]
    except UnreadableMedia as error:
        raise UserError(f"{path} cannot be read ({error}): take it out of the list of videos") from None
    seen = [network.features(np.stack(each)) for network, each in zip(networks, zip(*frames, strict=True), strict=True)]
    return np.concatenate([features.mean(axis=0) for features in seen])
