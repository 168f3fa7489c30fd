"""Every shipped teacher's pictures against the transform that its release was tested with, on photographs and films."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import pytest
import timm
import timm.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.models import get_model_weights

from pipeline.decoder.crop import FrameResizer
from pipeline.teachers.libraries.open_clip_models import transform_of_open_clip
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from shards.cli.command import compose
from shards.media.file import MAX_PIXELS

TORCHVISION = ("alexnet", "vgg16", "resnet18", "resnet50", "densenet161")

# Mean absolute difference in code values, over all pictures. Measured with the release's interpolation, and with the
# other one: photographs 0.20 and 1.15 for torchvision's; films 1.3 and 1.8, most of it chroma, which Pillow is given at
# full size and which is scaled here.
PHOTOGRAPHS, FILMS = 0.4, 1.45


@pytest.fixture(scope="module")
def frames() -> dict[float, list[av.VideoFrame]]:
    """By bound: four photographs as RGB, and decoded from films of one frame."""
    data = pytest.importorskip("skimage.data")
    pictures = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    pictures = [
        np.ascontiguousarray(picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]) for picture in pictures
    ]
    return {
        PHOTOGRAPHS: [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures],
        FILMS: [decoded(picture) for picture in pictures],
    }


def decoded(picture: NDArray[np.uint8]) -> av.VideoFrame:
    made = io.BytesIO()
    with av.open(made, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12", "threads": "1", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    made.seek(0)
    with av.open(made) as container:
        return next(container.decode(video=0))


def shipped(choice: str) -> dict[str, TeacherSpec]:
    return compose(TeacherSet, f"teachers/{choice}").active


def differences(
    transform: Transform, release: Callable[[Image.Image], torch.Tensor], frames: list[av.VideoFrame]
) -> float:
    """Mean absolute difference of the networks' inputs, in code values."""
    found = []
    for frame in frames:
        (picture,) = FrameResizer([transform.view], None, MAX_PIXELS).pictures(frame)
        ours = (picture - np.array(transform.mean)) / transform.std
        theirs = release(frame.to_image()).permute(1, 2, 0).numpy()
        assert ours.shape == theirs.shape
        found.append(np.abs((ours - theirs) * transform.std).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("choice", TORCHVISION)
def test_torchvisions_networks_see_what_their_releases_saw(choice, frames):
    objects = shipped(choice)["objects"]
    release = get_model_weights(objects.architecture)[objects.weights].transforms()
    for bound, some in frames.items():
        assert differences(objects.transform, release, some) < bound


@pytest.mark.parametrize("choice", TORCHVISION)
def test_places_networks_see_what_theirs_did(choice):
    """CSAIL validated them (train_placesCNN.py) as torchvision does; Caffe's differs in its numbers alone."""
    found = {head: spec.transform for head, spec in shipped(choice).items()}
    assert found["scenes"].view == found["objects"].view
    assert found["scenes"] == found["objects"] or choice == "vgg16"


@pytest.mark.parametrize(
    ("head", "name"), [("objects", "tf_efficientnet_lite0.in1k"), ("scenes", "tf_efficientnet_lite1.in1k")]
)
def test_the_lite_networks_see_what_their_releases_saw(head, name, frames):
    """By timm's records of the same TensorFlow releases, whose mean and std (127.5) are 127 and 128 in the original."""
    transform = shipped("efficientnet_lite01")[head].transform
    assert (transform.mean, transform.std) == ([127] * 3, [128] * 3)
    record = timm.get_pretrained_cfg(name).to_dict()
    preprocess = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=record))

    def release(picture: Image.Image) -> torch.Tensor:
        return (preprocess(picture) * 127.5 + 127.5 - 127) / 128

    for bound, some in frames.items():
        assert differences(transform, release, some) < bound


@pytest.mark.parametrize(
    ("name", "release", "side"), [("ViT-B-32", "laion2b_s34b_b79k", 224), ("MobileCLIP2-S0", "dfndr2b", 256)]
)
def test_open_clips_networks_see_what_their_releases_saw(name, release, side, frames):
    """Bicubic and bilinear, by the package's own transform of a release's record."""
    library = pytest.importorskip("open_clip", reason="needs the extra `open_clip`: make setup")
    record = library.get_pretrained_cfg(name, release)
    own = {key: record[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    transform = transform_of_open_clip(f"open_clip/{name}:{release}")
    for bound, some in frames.items():
        assert differences(transform, library.image_transform(side, is_train=False, **own), some) < bound
