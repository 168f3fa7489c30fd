"""Networks of timm as teachers, against timm's own transform and network. Small ones, their weights random."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import av
import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import AlexNet_Weights
from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from pipeline.teachers.cards import cards
from pipeline.teachers.libraries.timm_models import build_timm, classes_of, transform_of
from pipeline.teachers.network import input_transform, last_linear
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.weights import weights_file
from shards.cli.command import compose
from shards.errors import UserError
from shards.files import sha256_of
from shards.media.file import MAX_PIXELS
from tests.pipeline.conftest import with_statistics

SMALL = "test_resnet.r160_in1k"  # half a million parameters, made for tests; these here are random


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """With batch-norm statistics of noise and logits that tell pictures apart."""
    torch.manual_seed(3)
    network = with_statistics(timm.create_model(SMALL, pretrained=False), torch.randn(16, 3, 96, 96))
    network.get_classifier().weight.data.mul_(20)
    return network


@pytest.fixture
def spec(network: torch.nn.Module, tmp_path: Path) -> TeacherSpec:
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    return TeacherSpec(f"timm/{SMALL}", str(tmp_path / "own.safetensors"))


def test_a_frame_is_seen_as_timm_sees_it(spec: TeacherSpec, network: torch.nn.Module) -> None:
    """A frame of the size that timm resizes to: crop, normalisation and network are compared, scaling is not."""
    side = input_transform(spec).resize
    coarse = np.random.default_rng(0).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    picture = coarse.repeat(side // 7, axis=0).repeat(side // 7, axis=1)  # (168, 288, 3)
    assert picture.shape == (side, 12 * side // 7, 3)
    lens = FrameResizer([input_transform(spec).view], None, MAX_PIXELS)
    (seen,) = lens.pictures(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    card = cards(TeacherSet("test", {"objects": spec}))["objects"]
    found = Teacher(spec, card, "cpu", "float32").posteriors(seen[None])
    own = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    with torch.inference_mode():
        wanted = network(own(Image.fromarray(picture))[None]).softmax(dim=1).numpy()
    assert wanted.max() > 0.05 and np.abs(found - wanted).max() < 1e-4
    assert card.weights == "own.safetensors" and card.weights_sha256 == sha256_of(Path(spec.weights))
    assert card.architecture == f"timm/{SMALL}" and len(card.classes) == 1000
    assert card.transform["interpolation"] == "bilinear" and card.transform["crop"] == 160


@pytest.mark.parametrize(
    "name", [SMALL, "resnet18.a1_in1k", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "convnext_base.fb_in22k_ft_in1k"]
)
def test_the_transform_is_that_of_timms_data_config(name: str) -> None:
    record = timm.get_pretrained_cfg(name).to_dict()
    own = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=record)).transforms
    by_kind = {type(step): step for step in own}
    resize, crop, normalise = by_kind[Resize], by_kind[CenterCrop], by_kind[Normalize]
    found = transform_of(f"timm/{name}")
    assert (found.resize, (found.crop, found.crop)) == (resize.size, tuple(crop.size))
    assert InterpolationMode(found.interpolation) == resize.interpolation
    np.testing.assert_allclose(found.mean, [255 * float(value) for value in normalise.mean], rtol=1e-6)
    np.testing.assert_allclose(found.std, [255 * float(value) for value in normalise.std], rtol=1e-6)


def test_the_interpolation_asked_for_is_made() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    lens = FrameResizer([ResizeCrop(40, 40), ResizeCrop(40, 40, "bilinear")], None, MAX_PIXELS)
    cubic, linear = lens.pictures(frame)
    for found, scaling in ((cubic, "BICUBIC"), (linear, "BILINEAR")):
        wanted = frame.reformat(40, 40, "gbrp", interpolation=scaling).to_ndarray()
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert np.abs(cubic.astype(int) - linear.astype(int)).max() > 5


def test_class_names_are_in_the_order_of_imagenet() -> None:
    names, other = classes_of(f"timm/{SMALL}"), AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    differing = [(one, two) for one, two in zip(names, other, strict=True) if one.partition(",")[0] != two]
    assert differing == [("crane", "crane bird"), ("maillot, tank suit", "maillot tank suit")]


def test_the_classifier_is_found_where_timm_says() -> None:
    vit = build_timm("timm/test_vit.r160_in1k", 7)
    assert last_linear(vit) is vit.get_classifier() and vit.get_classifier().out_features == 7


def test_a_release_is_downloaded_or_its_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    (released,) = compose(TeacherSet, "teachers/timm").active.values()
    where = r"convnext_base\.fb_in22k_ft_in1k\.safetensors from https://huggingface\.co/timm/convnext_base\.fb_in22k_ft_in1k"
    with pytest.raises(UserError, match=where + r"/resolve/main/model\.safetensors .*no route to host"):
        cards(TeacherSet("timm", {"objects": released}))
    assert weights_file(released).path == tmp_path / "hub/checkpoints/convnext_base.fb_in22k_ft_in1k.safetensors"


def test_what_cannot_be_a_teacher_is_refused(spec: TeacherSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no pretrained network 'resnet17'. Near it: .*'resnet1"):
        _ = input_transform(TeacherSpec("timm/resnet17", "timm"))
    with pytest.raises(UserError, match=r"Near it: .*'resnet18\.a1_in1k'"):
        _ = input_transform(TeacherSpec("timm/resnet18.a9", "timm"))
    with pytest.raises(UserError, match=r"448x448, crop mode squash.*say what comes nearest under `transform`"):
        _ = input_transform(TeacherSpec("timm/eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "timm"))
    with pytest.raises(ValueError, match="alexnet needs a transform: only networks of timm and open_clip"):
        TeacherSpec("alexnet", "IMAGENET1K_V1")
    other = Transform(256, 200, "rgb", [127.0] * 3, [64.0] * 3, "bicubic")
    vit = TeacherSpec("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", spec.weights, other)
    with pytest.raises(UserError, match=r"knows pictures of 224 pixels, the transform cuts out 200"):
        cards(TeacherSet("test", {"objects": vit}))
    with pytest.raises(UserError, match=r"own\.safetensors does not fit the network"):
        cards(TeacherSet("test", {"objects": replace(spec, architecture="timm/test_resnet", classes=__file__)}))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs the extra `timm`: /.* -m pip install 'soundnet\[timm\]'"):
        build_timm("timm/resnet18.a1_in1k", 3)
