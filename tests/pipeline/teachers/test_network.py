"""Networks by name: built, filled, and refused in one line when weights do not fit."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from pipeline.teachers.network import LITE, build, fill, last_linear, load_network
from shards.errors import UserError


def test_a_network_has_as_many_outputs_as_classes() -> None:
    network = build("shufflenet_v2_x0_5", 7).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1"])
def test_lite_networks_come_from_their_package(name: str) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the lite networks come with the demo extra")
    network = build(name, 5)
    assert isinstance(network, package.EfficientNet)
    assert last_linear(network).out_features == 5


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"efficientnet_lite_pytorch: `/.* -m pip install 'soundnet\[demo\]'`"):
        build(next(iter(LITE)), 5)


def test_an_unknown_name_gets_near_ones() -> None:
    for name in ("resnet51", "fcn_resnet50"):  # the second is torchvision's, for another task
        with pytest.raises(UserError, match=rf"no network is called '{name}'.*'resnet50'"):
            build(name, 5)


@pytest.mark.parametrize(
    ("name", "width"), [("alexnet", 4096), ("vgg16", 4096), ("resnet50", 2048), ("googlenet", 1024), ("vit_b_16", 768)]
)
def test_the_last_linear_layer_gives_the_classes(name: str, width: int) -> None:
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        layer = last_linear(torchvision.models.get_model(name, weights=None, num_classes=9))
    assert layer is not None and (layer.in_features, layer.out_features) == (width, 9)


def test_weights_are_loaded_for_looking_only(tmp_path: Path) -> None:
    wanted = build("shufflenet_v2_x0_5", 7)
    torch.save({"state_dict": wanted.state_dict()}, tmp_path / "net.pth")
    network = load_network("shufflenet_v2_x0_5", tmp_path / "net.pth", 7)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network.get_parameter("fc.weight"), wanted.get_parameter("fc.weight"))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 5))


def test_the_number_of_classes_must_fit(tmp_path: Path) -> None:
    torch.save(build("shufflenet_v2_x0_5", 365).state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"fc\.weight: the file has \(365, 1024\), the network \(364, 1024\); fc\.bias"):
        load_network("shufflenet_v2_x0_5", tmp_path / "net.pth", 364)


def test_keys_that_differ_are_named_on_both_sides() -> None:
    state = network().state_dict()
    state["3.weight"] = state.pop("2.weight")
    with pytest.raises(UserError, match=r"2\.weight: only the network has it; 3\.weight: only the file has it"):
        fill(network(), state, Path("net.pth"))


def test_many_differences_are_counted() -> None:
    with pytest.raises(UserError, match="and 5 more"):
        fill(network(), {"other": torch.zeros(1)}, Path("net.pth"))


def test_batch_norm_without_its_counter_is_loaded() -> None:
    wanted, filled = network(), network()
    fill(
        filled, {key: value for key, value in wanted.state_dict().items() if "num_batches" not in key}, Path("net.pth")
    )
    assert torch.equal(filled[0].weight, wanted[0].weight)


def test_weights_that_are_not_numbers_are_refused() -> None:
    state = network().state_dict()
    state["0.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        fill(network(), state, Path("net.pth"))
