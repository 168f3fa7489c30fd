"""Frames, sound, and both: colours and tones of tiny videos, where each alone leaves two classes in doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluate.model import EvaluatedModel
from evaluate.probe.classifiers import LinearSVM
from evaluate.reproduce import multimodal
from evaluate.reproduce.multimodal import labelled_videos, recognise
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from shards.errors import UserError
from shards.format.manifest import TeacherCard
from tests.media import Track, film, tone

CLASSES = {"red-low": (200, 300.0), "red-high": (200, 2000.0), "blue-low": (40, 300.0), "blue-high": (40, 2000.0)}
TRANSFORM = Transform(resize=32, crop=24, channels="rgb", mean=[0, 0, 0], std=[1, 1, 1], interpolation="bicubic")
TEACHERS = TeacherSet("colours", {"objects": TeacherSpec("colours", "none", TRANSFORM)})


class Colours:
    """A teacher whose penultimate activations are the mean colour."""

    def __init__(self, spec: TeacherSpec, card: TeacherCard, device: str) -> None:
        self.transform = spec.transform

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert pictures.shape == (4, 24, 24, 3)  # four frames, as the paper has it
        return pictures.mean(axis=(1, 2)).astype(np.float32)


def labelled(path: Path, red: int, frequency: float, seed: int) -> None:
    """1.5 s of a colour and a tone, in noise."""
    random = np.random.default_rng(seed)
    sound = Track(tone(1.5, frequency * random.uniform(0.95, 1.05)), codec="pcm_s16le")

    def picture(time: float) -> NDArray[np.uint8]:
        return random.integers(0, 30, (32, 32, 3)).astype(np.uint8) + np.array([red, 0, 0], np.uint8)

    film(path, 1.5, fps=8, size=(32, 32), codec="mpeg4", picture=picture, tracks=[sound])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    lines = ["path,label"]
    for name, (red, frequency) in CLASSES.items():
        for index in range(10):
            labelled(folder / f"{name}-{index}.mkv", red, frequency, seed=index)
            lines.append(f"{name}-{index}.mkv,{name}")
    (folder / "videos.csv").write_text("\n".join(lines))
    return folder / "videos.csv"


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    card = TeacherCard("colours", "none", "0" * 64, {}, ("a",))
    monkeypatch.setattr(multimodal, "Teacher", Colours)
    monkeypatch.setattr(multimodal, "cards", lambda teachers: dict.fromkeys(teachers.active, card))


def test_both_know_what_neither_knows_alone(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    found = recognise(videos, EvaluatedModel.load(checkpoint), TEACHERS, "conv2", tmp_path, LinearSVM())
    assert found.classes == 4 and found.chance == 0.25 and found.most_frequent == 0.25
    assert found.scores["both"].value > 0.9
    assert found.scores["vision"].value <= 0.75 and found.scores["sound"].value <= 0.75
    assert {score.recordings for score in found.scores.values()} == {16}  # 40 % of 40


def test_the_split_is_by_video_and_the_same_every_time(videos: Path) -> None:
    first, second = labelled_videos(videos), labelled_videos(videos)
    assert first == second
    assert np.bincount(first.labels[first.folds == "train"]).tolist() == [6, 6, 6, 6]
    (split,) = first.splits()
    assert not set(split.train) & set(split.test)


def test_a_given_split_is_kept(videos: Path, tmp_path: Path) -> None:
    table = videos.with_name("split.csv")
    lines = videos.read_text().splitlines()
    folds = ["split", *(["test", *["train"] * 9] * 4)]
    table.write_text("\n".join(f"{line},{fold}" for line, fold in zip(lines, folds, strict=True)))
    benchmark = labelled_videos(table)
    tested = [recording.name for recording in benchmark.recordings if recording.fold == "test"]
    assert sorted(tested) == [f"{name}-0.mkv" for name in sorted(CLASSES)]


def test_folds_of_the_table_are_kept_and_each_is_tested(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    table = videos.with_name("folds.csv")
    lines = videos.read_text().splitlines()
    folds = ["fold", *(["a", "b", "c", "b", "c"] * 8)]
    table.write_text("\n".join(f"{line},{fold}" for line, fold in zip(lines, folds, strict=True)))
    benchmark = labelled_videos(table)
    assert benchmark.tested == ("a", "b", "c")
    of = {recording.name: recording.fold for recording in benchmark.recordings}
    assert [of[line.split(",")[0]] for line in lines[1:]] == folds[1:]
    found = recognise(table, EvaluatedModel.load(checkpoint), TEACHERS, "conv2", tmp_path, LinearSVM(0.3))
    assert {score.recordings for score in found.scores.values()} == {40} and found.most_frequent == 0.25
    assert set(found.scores["both"].C.values()) == {0.3}  # which is the one asked for


def test_features_of_frames_are_computed_once(
    videos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recognise(videos, EvaluatedModel.load(checkpoint), TEACHERS, "conv2", tmp_path, LinearSVM())
    monkeypatch.setattr(multimodal, "Teacher", None)  # would fail if it were called
    again = recognise(videos, EvaluatedModel.load(checkpoint), TEACHERS, "conv2", tmp_path, LinearSVM())
    assert {name: score.confusion for name, score in first.scores.items()} == {
        name: score.confusion for name, score in again.scores.items()
    }


def test_a_class_of_one_video_is_refused(videos: Path) -> None:
    table = videos.with_name("one.csv")
    table.write_text("path,label\nred-low-0.mkv,x\nred-low-1.mkv,x\nred-low-2.mkv,y\n")
    with pytest.raises(UserError, match=r"one\.csv has one video of y"):
        labelled_videos(table)
