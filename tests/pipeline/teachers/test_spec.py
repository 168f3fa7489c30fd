"""Teacher sets as conf/teachers gives them, and impossible ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.decoder.crop import ResizeCrop
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from shards.cli.command import compose

IMAGENET: dict[str, Any] = {
    "resize": 256, "crop": 224, "channels": "rgb", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
    "interpolation": "bilinear",
}  # fmt: skip
PLACES_PYTORCH = ("alexnet", "resnet18", "resnet50", "densenet161")  # the releases that exist as PyTorch checkpoints


def composed(choice: str) -> TeacherSet:
    return compose(TeacherSet, f"teachers/{choice}")


def test_every_file_is_a_set_of_its_own_name(root: Path) -> None:
    names = [path.stem for path in (root / "conf" / "teachers").glob("*.yaml")]
    assert {"alexnet", "vgg16", "resnet18", "resnet50", "efficientnet_lite0", "efficientnet_lite01"} <= set(names)
    assert [composed(name).name for name in names] == names


@pytest.mark.parametrize("architecture", PLACES_PYTORCH)
def test_objects_are_imagenet_and_scenes_places(architecture: str) -> None:
    transform = Transform(**IMAGENET)
    assert composed(architecture).heads == {
        "objects": TeacherSpec(architecture, "IMAGENET1K_V1", transform),
        "scenes": TeacherSpec(
            architecture,
            f"data/teachers/{architecture}_places365.pth.tar",
            transform,
            "data/teachers/categories_places365.txt",
        ),
    }


def test_the_transform_is_that_of_torchvision() -> None:
    from torchvision.models import AlexNet_Weights

    preset = AlexNet_Weights.IMAGENET1K_V1.transforms()
    assert [preset.resize_size, preset.crop_size] == [[256], [224]]
    assert IMAGENET["mean"] == pytest.approx([255 * value for value in preset.mean])
    assert IMAGENET["std"] == pytest.approx([255 * value for value in preset.std])


def test_vgg16_for_places_is_a_caffe_network() -> None:
    scenes = composed("vgg16").active["scenes"]
    assert scenes.weights == "data/teachers/vgg16_places365.caffemodel"
    assert scenes.transform.channels == "bgr"
    assert scenes.transform.std == [1, 1, 1]
    assert scenes.transform.mean == pytest.approx([104, 117, 123], abs=8)  # near ImageNet's mean in BGR
    assert composed("vgg16").active["objects"].transform == Transform(**IMAGENET)


def test_the_two_lite_networks_look_at_their_own_size() -> None:
    assert [spec.transform.view for spec in composed("efficientnet_lite01").active.values()] == [
        ResizeCrop(resize=256, crop=224),
        ResizeCrop(resize=272, crop=240),
    ]


def test_a_head_that_is_off_is_not_active() -> None:
    assert list(composed("custom").heads) == ["objects", "scenes"]
    assert list(composed("custom").active) == ["objects"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 300}, "crop 300, resize 256"),
        ({"crop": 0}, "crop 0"),
        ({"channels": "gbr"}, "rgb or bgr, not 'gbr'"),
        ({"mean": [1.0, 2.0]}, "hold 3 numbers"),
        ({"std": [1.0, 0.0, 1.0]}, "std above 0"),
    ],
)
def test_impossible_transforms_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transform(**{**IMAGENET, **change})


@pytest.mark.parametrize(
    ("name", "heads", "message"),
    [
        ("a/b", ["objects"], "becomes a folder"),
        ("", ["objects"], "becomes a folder"),
        ("ok", ["objects.left"], "lower case letters"),
        ("ok", ["Objects"], "lower case letters"),
        ("ok", [], "no head switched on"),
    ],
)
def test_impossible_sets_are_refused(name: str, heads: list[str], message: str) -> None:
    spec = TeacherSpec("alexnet", "IMAGENET1K_V1", Transform(**IMAGENET))
    with pytest.raises(ValueError, match=message):
        TeacherSet(name, {"scenes": None, **dict.fromkeys(heads, spec)})
    with pytest.raises(ValueError, match="needs an architecture and weights"):
        TeacherSpec("alexnet", "", Transform(**IMAGENET))
