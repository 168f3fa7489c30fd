"""The network of a teacher: built by name, filled with its weights, its last linear layer found."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, nn

from pipeline.teachers.caffemodel import read_caffemodel, state_dict_from_caffe
from pipeline.teachers.libraries.open_clip_models import (
    build_open_clip,
    current_keys,
    is_open_clip,
    transform_of_open_clip,
)
from pipeline.teachers.libraries.timm_models import build_timm, is_timm, transform_of
from pipeline.teachers.spec import TeacherSpec, Transform
from pipeline.teachers.weights import DEMO_EXTRA, read_state_dict
from shards.errors import ContractError, UserError

# Our names of the networks in the package efficientnet_lite_pytorch, and its own.
LITE = {f"efficientnet_lite{size}": f"efficientnet-lite{size}" for size in range(5)}


def load_network(architecture: str, path: Path, classes: int) -> nn.Module:
    """The network with `classes` outputs and the weights of `path`, in eval mode on the CPU.

    Of open_clip both towers, whose outputs are embeddings for any number of classes.
    Raises UserError where network, weights and number of classes do not fit.
    """
    network = build(architecture, classes)
    if path.suffix == ".caffemodel":
        fill(network, state_dict_from_caffe(read_caffemodel(path), network, path), path)
    else:
        state = read_state_dict(path)
        fill(network, current_keys(state, network) if is_open_clip(architecture) else state, path)
    return network.eval().requires_grad_(False)


def build(architecture: str, classes: int) -> nn.Module:
    """A network of torchvision, timm, open_clip or efficientnet_lite_pytorch with random weights.

    torchvision's AlexNet is the one of "One weird trick" (arXiv 1404.5997), as is the Places365 release in PyTorch:
    one column and other widths than the Caffe network that the paper's teachers were.
    """
    if is_timm(architecture):
        return build_timm(architecture, classes)
    if is_open_clip(architecture):
        return build_open_clip(architecture)
    if architecture in LITE:
        return _build_lite(LITE[architecture], classes)
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        near = difflib.get_close_matches(architecture, [*known, *LITE], n=4, cutoff=0.4)
        raise UserError(
            f"no network is called {architecture!r}. Near it: {near}. There are torchvision.models, {[*LITE]}, "
            "timm/<name> and open_clip/<name>"
        )
    with warnings.catch_warnings():
        # GoogLeNet and Inception announce a change of their initialisation, which is overwritten here anyway.
        warnings.simplefilter("ignore", FutureWarning)
        network: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    return network


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load `state` whole. Raises ContractError with the first few keys and shapes in which the two differ."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    # Batch norm counts its batches only since PyTorch 0.4; load_state_dict fills the counter in.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    differing = [
        *(f"{key}: the file has {found[key]}, the network {wanted[key]}" for key in wanted if key in found
          and found[key] != wanted[key]),
        *(f"{key}: only the network has it" for key in missing),
        *(f"{key}: only the file has it" for key in found if key not in wanted),
    ]  # fmt: skip
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise ContractError(
            f"{path} does not fit the network ({'; '.join(differing[:4])}{more}): the architecture, and a "
            "classifier's number of names in `classes`, must be those of the weights"
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise UserError(f"{path} holds weights that are not finite numbers: it is damaged, or no classifier")
    network.load_state_dict(dict(state))


def input_transform(spec: TeacherSpec) -> Transform:
    """`spec.transform`, or the library's own. Raises UserError where it has none that is made here."""
    if spec.transform is not None:
        return spec.transform
    return (transform_of_open_clip if is_open_clip(spec.architecture) else transform_of)(spec.architecture)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The layer that maps the penultimate activations to the classes; None for a network that ends in a convolution."""
    classifier = getattr(network, "get_classifier", None)  # timm's
    if classifier is not None:
        found = classifier()
        return found if isinstance(found, nn.Linear) else None
    return next((module for module in reversed(list(network.modules())) if isinstance(module, nn.Linear)), None)


def _build_lite(name: str, classes: int) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(f"{name} is in the package efficientnet_lite_pytorch: `{DEMO_EXTRA}`") from None
    network: nn.Module = EfficientNet.from_name(name, num_classes=classes)
    return network
