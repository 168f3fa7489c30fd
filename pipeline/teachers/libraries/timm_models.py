"""Image classifiers of timm as teachers: `architecture: timm/<name>`. The network, and what timm itself says of it.

The picture's way into it, its class names and where its weights lie come from timm's own records, so that a file of
conf/teachers need only name it. timm is imported when one is asked for (extra `timm`).
"""

from __future__ import annotations

import difflib
import math
from functools import cache
from typing import Any

from torch import nn

from pipeline.teachers.spec import TIMM, Transform
from shards.cli.commands import install
from shards.errors import UserError

EXTRA = install("timm")
HUB = "https://huggingface.co/{repository}/resolve/main/model.safetensors"
INTERPOLATIONS = ("bicubic", "bilinear")


def is_timm(architecture: str) -> bool:
    return architecture.startswith(TIMM)


def build_timm(architecture: str, classes: int) -> nn.Module:
    """The network with random weights. Raises UserError for an unknown name."""
    _record(architecture)
    network: nn.Module = _timm().create_model(_name(architecture), pretrained=False, num_classes=classes)
    return network


@cache
def transform_of(architecture: str) -> Transform:
    """timm's own data config of a network, as `timm.data.create_transform` has it for evaluation.

    Raises UserError for one that is not a shorter side resized and a square cut out of its centre.
    """
    config = _timm().data.resolve_data_config(pretrained_cfg=_record(architecture))
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center" or config["interpolation"] not in INTERPOLATIONS:
        raise UserError(
            f"{architecture} wants pictures of {height}x{width}, crop mode {config['crop_mode']}, interpolation "
            f"{config['interpolation']}; only square centre crops, {' or '.join(INTERPOLATIONS)}, are made here. Take "
            "another network, or say what comes nearest under `transform`"
        )
    return Transform(
        resize=math.floor(height / config["crop_pct"]),
        crop=height,
        channels="rgb",
        mean=[255 * value for value in config["mean"]],
        std=[255 * value for value in config["std"]],
        interpolation=config["interpolation"],
    )


def classes_of(architecture: str) -> tuple[str, ...]:
    """The class names that timm has for the ImageNet of a network. Raises UserError where it has none."""
    record, data = _record(architecture), _timm().data
    subset = data.infer_imagenet_subset(record)
    if subset is None:
        raise UserError(
            f"timm has no names for the {record['num_classes']} classes of {architecture}: set `classes` to a list file"
        )
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def release_url(architecture: str) -> tuple[str, str]:
    """(URL, file name) of the weights that timm would download. Raises UserError where they are in no such file."""
    record = _record(architecture)
    repository = record.get("hf_hub_id") or ""
    if not repository.startswith("timm/") or record.get("custom_load") or record.get("hf_hub_filename"):
        raise UserError(f"timm has no single .safetensors file for {architecture}: give the path of one as `weights`")
    return HUB.format(repository=repository), f"{repository.partition('/')[2]}.safetensors"


def require_size(architecture: str, crop: int) -> None:
    """Raise UserError where a network takes one size of pictures alone, and the transform makes another."""
    record = _record(architecture)
    if record.get("fixed_input_size") and record["input_size"][-1] != crop:
        raise UserError(
            f"{architecture} knows pictures of {record['input_size'][-1]} pixels, the transform cuts out {crop}: "
            "set transform.crop to that, or leave out `transform`"
        )


@cache
def _record(architecture: str) -> dict[str, Any]:
    """timm's pretrained_cfg of a network, as a dict."""
    name = _name(architecture)
    try:
        found = _timm().get_pretrained_cfg(name)
    except RuntimeError:  # a known network, an unknown tag behind its dot
        found = None
    if found is None:
        base = name.partition(".")[0]
        tagged = _timm().list_models(f"{base}.*", pretrained=True)
        near = tagged or difflib.get_close_matches(base, _timm().list_models(), n=4, cutoff=0.4)
        raise UserError(f"timm knows no pretrained network {name!r}. Near it: {near}. All: timm.list_models()")
    record: dict[str, Any] = found.to_dict()
    return record


def _name(architecture: str) -> str:
    return architecture.removeprefix(TIMM)


def _timm() -> Any:
    try:
        import timm
        import timm.data
    except ImportError:
        raise UserError(f"a teacher of timm needs the extra `timm`: {EXTRA}") from None
    return timm
