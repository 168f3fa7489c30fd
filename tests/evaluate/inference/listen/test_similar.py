"""The nearest sounds of a folder: by the cosine of one pass's means; computed once; what cannot be read is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from evaluate.inference.listen.similar import SimilarSounds
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from tests.evaluate.inference.listen.conftest import int16
from train.checkpoint.checkpoint import load_student


def mean(checkpoint: Path, sound: NDArray[np.int16]) -> NDArray[np.float64]:
    """conv2's mean over time, in one pass."""
    student, _ = load_student(checkpoint)
    with torch.no_grad():
        layer = student.features(torch.from_numpy(sound)[None].float() / 128, ["conv2"])["conv2"]
    vector: NDArray[np.float64] = layer[0].double().mean(dim=1).numpy()
    return vector


def test_the_nearest_are_those_of_the_cosine(named: Path, sounds: Path, tmp_path: Path) -> None:
    model = EvaluatedModel.load(named, heads=True)
    similar = SimilarSounds.embedded(model, "conv2", [sounds], tmp_path)
    asked = int16("middle", 1.7)
    vector, expected = mean(named, asked), {}
    for path in sorted(sounds.iterdir()):
        if path.name != "no sound.wav":
            other = mean(named, soundfile.read(path, dtype="int16")[0])
            expected[path] = vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)
    found = {similar.paths[index]: cosine for index, cosine in similar.nearest([asked], 9)}
    assert list(found) == sorted(expected, key=lambda path: -expected[path]) and len(found) == 4
    assert found == pytest.approx(expected, abs=1e-5)
    assert [index for index, _ in similar.nearest([asked], 1)] == [similar.paths.index(next(iter(found)))]


def test_what_is_there_is_not_computed_again(
    named: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = EvaluatedModel.load(named, heads=True)
    for _ in range(2):
        SimilarSounds.embedded(model, "conv2", [sounds], tmp_path)
    said = capsys.readouterr()
    assert said.out == "4 of 5 are there already\n" and said.err.count("no sound.wav cannot be read") == 2


def test_a_folder_without_a_sound_is_one_line(named: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    model = EvaluatedModel.load(named, heads=True)
    with pytest.raises(UserError, match=r"no sound of similar=.* could be read"):
        SimilarSounds.embedded(model, "conv2", [tmp_path], tmp_path / "out")


def test_a_sound_that_gives_nothing_is_like_none(named: Path) -> None:
    model = EvaluatedModel.load(named, heads=True)
    vectors = np.zeros((2, 8), np.float32)
    assert SimilarSounds(model, "conv2", [], vectors).nearest([int16("low", 1.0)], 2) == [(0, 0.0), (1, 0.0)]
