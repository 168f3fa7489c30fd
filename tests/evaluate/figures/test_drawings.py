"""Figures are pictures of the right size, drawn from the right numbers, the same on every run."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from evaluate.figures.confusion import draw_confusion, worst_confusions
from evaluate.figures.filters import draw_filters, first_filters
from evaluate.figures.tsne import draw_embeddings, embed
from train.model.layers import StudentSpec
from train.model.student import Student


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image.size


def test_filters_are_ordered_by_what_they_let_through(tiny: StudentSpec) -> None:
    network = Student(tiny, {"objects": 2}, sample_rate=8000)
    time = torch.arange(16) / 8000
    frequencies = [3000.0, 500.0, 2000.0, 1000.0, 3500.0, 1500.0]
    with torch.no_grad():
        for index, frequency in enumerate(frequencies):
            wave = torch.cos(2 * torch.pi * frequency * time) * torch.hann_window(16)
            network.get_parameter("blocks.conv1.conv.weight")[index, 0] = wave
    filters, responses, points = first_filters(network)
    assert filters.shape == (6, 16)
    assert points[responses.argmax(axis=1)] == pytest.approx(sorted(frequencies), abs=200)
    assert draw_filters(network) == draw_filters(network)
    assert size(draw_filters(network))[0] > 600


def test_confusions() -> None:
    confusion = [[5, 0, 1], [0, 6, 0], [3, 2, 1]]
    assert worst_confusions(confusion, ["a", "b", "c"]) == [("c", "a", 3), ("c", "b", 2), ("a", "c", 1)]
    width, height = size(draw_confusion(confusion, ["a", "b", "c"]))
    assert width > 400 and height > 400
    assert size(draw_confusion(np.eye(50).astype(int).tolist(), [f"class {i}" for i in range(50)]))[0] > width


def test_embeddings_keep_neighbours() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 15)
    vectors = (6 * np.eye(10)[labels] + generator.normal(size=(45, 10))).astype(np.float32)
    points = embed(vectors)
    assert points.shape == (45, 2) and np.array_equal(points, embed(vectors))
    assert KNeighborsClassifier(5).fit(points, labels).score(points, labels) > 0.95
    assert size(draw_embeddings({"frames": vectors, "sound": vectors}, labels, ["a", "b", "c"]))[0] > 1000
