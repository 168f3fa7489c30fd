"""Any list of words as a teacher's classes: an image-text network's posteriors of them (Radford et al. 2021).

With an image's embedding f(x) and a class's w_c, both of length 1, and the checkpoint's learned `logit_scale` t:

    p(c | x) = softmax over c of exp(t) f(x) . w_c

w_c is the mean over the templates ("a photo of a {}.") of the embeddings of length 1 of the text, scaled to length 1.
Source: Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020, figure 3 and section
3.1.4 (templates). A `logit_bias` is the same for all classes and leaves the softmax as it is.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.teachers.libraries.open_clip_models import tokens_of
from pipeline.teachers.network import load_network
from pipeline.teachers.spec import PLACE, TeacherSet, TeacherSpec
from pipeline.teachers.weights import existing_weights
from shards.errors import ContractError, UserError
from shards.format.manifest import Manifest, TeacherCard

log = logging.getLogger("pipeline")
TEXTS = 64  # embedded at once
OF_PLACES = re.compile(r"/[a-z]/(.+)")  # /a/apartment_building/outdoor


def words_of(classes: Sequence[str]) -> list[str]:
    """The names as they are put into a sentence: those of Places without their letter, `_` and `/`, all others as is.

    Raises UserError for two that the network would read as one: it reads no capitals.
    """
    words = [
        match[1].replace("_", " ").replace("/", " ") if (match := OF_PLACES.fullmatch(name)) else name
        for name in classes
    ]
    seen: dict[str, str] = {}
    for name, word in zip(classes, words, strict=True):
        text = " ".join(word.casefold().split())
        if text in seen:
            raise UserError(f"the class list has {seen[text]!r} and {name!r}, which read the same: keep one of them")
        seen[text] = name
    return words


def sentences(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Each class in each template, class by class. Raises UserError for classes that read the same."""
    return [template.replace(PLACE, word) for word in words_of(classes) for template in templates]


def with_text(
    teachers: TeacherSet, cards: Mapping[str, TeacherCard], found: Manifest | None = None
) -> dict[str, TeacherCard]:
    """The cards, their classes embedded where they are words; as `found` has them where all else is the same.

    Raises UserError.
    """
    earlier = found.teachers if found is not None else {}
    return {head: _with_text(teachers.active[head], card, earlier.get(head)) for head, card in cards.items()}


def _with_text(spec: TeacherSpec, card: TeacherCard, earlier: TeacherCard | None) -> TeacherCard:
    if card.text is None:
        return card
    if earlier is not None and earlier.text is not None:
        bare = replace(earlier.text, sha256="", values="")
        if replace(earlier, text=bare) == card:
            return earlier
    network = load_network(spec.architecture, existing_weights(spec), len(card.classes))
    tokens = tokens_of(spec.architecture, sentences(card.classes, card.text.templates))  # (sentences, context)
    log.info("%s embeds %d classes in %d sentences", spec.architecture, len(card.classes), len(tokens))
    with torch.inference_mode():
        parts = [network.encode_text(part, normalize=True) for part in torch.split(tokens, TEXTS)]  # type: ignore[operator]
        embeddings = torch.cat(parts).reshape(len(card.classes), len(card.text.templates), -1)
        classes = F.normalize(embeddings.mean(dim=1), dim=1)
    values = classes.numpy().astype("<f2").tobytes()
    digest = hashlib.sha256(values).hexdigest()
    return replace(card, text=replace(card.text, sha256=digest, values=base64.b64encode(values).decode()))


class WordClassifier(nn.Module):
    """The image tower, and a linear layer whose weights are exp(t) w_c: (n, 3, side, side) -> logits (n, classes)."""

    def __init__(self, network: nn.Module, card: TeacherCard) -> None:
        super().__init__()
        embedding = _embedding(card)
        scale: Tensor = network.logit_scale.detach().exp()  # type: ignore[operator]
        self.visual = network.visual
        self.classes = nn.Linear(embedding.shape[1], embedding.shape[0], bias=False)
        self.classes.weight = nn.Parameter(scale.reshape(()) * F.normalize(embedding, dim=1), requires_grad=False)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.visual(pictures)  # type: ignore[operator]
        embedding = seen[0] if isinstance(seen, tuple) else seen  # CoCa has tokens for its captions beside it
        image = F.normalize(embedding.float(), dim=1)
        logits: Tensor = self.classes(image.to(self.classes.weight.dtype))
        return logits


def _embedding(card: TeacherCard) -> Tensor:
    """float32 (classes, width). Raises ContractError where a card was changed by hand."""
    assert card.text is not None
    values = base64.b64decode(card.text.values)
    if hashlib.sha256(values).hexdigest() != card.text.sha256:
        raise ContractError(
            f"the text embedding of {card.architecture} has not the sha256 that its card says, {card.text.sha256}: "
            "the manifest was changed; write shards into a new folder"
        )
    return torch.from_numpy(np.frombuffer(values, "<f2").reshape(len(card.classes), -1).astype(np.float32))
