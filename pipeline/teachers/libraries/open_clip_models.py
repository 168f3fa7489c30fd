"""Image-text networks of open_clip as teachers: `architecture: open_clip/<name>`, or `open_clip/<name>:<release>`.

The network, the picture's way into it, its tokens and where its weights lie come from open_clip's own records. It is
imported when one is asked for (extra `open_clip`).
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.teachers.spec import OPEN_CLIP, Transform
from shards.cli.commands import install
from shards.errors import UserError

EXTRA = install("open_clip")


def is_open_clip(architecture: str) -> bool:
    return architecture.startswith(OPEN_CLIP)


def build_open_clip(architecture: str) -> nn.Module:
    """Both towers with random weights; nothing is downloaded. Raises UserError for an unknown name."""
    name, _ = _known(architecture)
    with _quiet():
        network: nn.Module = _open_clip().create_model(name, pretrained_text=False)
    return network


def current_keys(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's keys as the network's: those of Apple's files and of open_clip's older layout are renamed."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    renamed: dict[str, Tensor] = convert_state_dict(network, state)
    if "positional_embedding" in renamed and not hasattr(network, "positional_embedding"):
        renamed = convert_to_custom_text_state_dict(renamed)
    return renamed


@cache
def transform_of_open_clip(architecture: str) -> Transform:
    """open_clip's own preprocessing of a release; without a release, its default, as open_clip has it for a file.

    Raises UserError for one that is not a shorter side resized and a square cut out of its centre.
    """
    name, release = _known(architecture)
    library = _open_clip()
    record = asdict(library.transform.PreprocessCfg()) | library.get_pretrained_cfg(name, release)
    size = library.get_model_config(name)["vision_cfg"].get("image_size", library.CLIPVisionCfg.image_size)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    if height != width or record["resize_mode"] != "shortest":
        raise UserError(
            f"{architecture} wants pictures of {height}x{width}, resize mode {record['resize_mode']}; only square "
            "centre crops of the scaled shorter side are made here. Take another network, or say what comes nearest "
            "under `transform`"
        )
    return Transform(
        resize=height,
        crop=height,
        channels="rgb",
        mean=[255 * value for value in record["mean"]],
        std=[255 * value for value in record["std"]],
        interpolation=record["interpolation"],
    )


def tokens_of(architecture: str, texts: Sequence[str]) -> Tensor:
    """int64 (texts, context length). Raises UserError for a text that is too long, which open_clip would cut off."""
    name, _ = _known(architecture)
    with _quiet():
        tokenizer = _open_clip().get_tokenizer(name)
    room = tokenizer.context_length - 2  # beside the marks of start and end
    for text in texts:
        if (count := len(tokenizer.encode(text))) > room:
            raise UserError(f"{text[:80]!r} has {count} tokens, and {architecture} reads {room}: use a shorter name")
    tokens: Tensor = tokenizer(list(texts))
    return tokens


def release_file(architecture: str) -> tuple[Path | None, str]:
    """(the file of the release where open_clip's own download has left it, the page of its repository)."""
    repository, name = os.path.split(_release(architecture)["hf_hub"])
    from huggingface_hub import try_to_load_from_cache

    constants = _open_clip().constants
    names = [name] if name else [constants.HF_SAFE_WEIGHTS_NAME, constants.HF_WEIGHTS_NAME]
    cached = (try_to_load_from_cache(repository, each) for each in names)
    return next((Path(path) for path in cached if isinstance(path, str)), None), f"https://huggingface.co/{repository}"


def download_release(architecture: str) -> None:
    """open_clip's own download, into the cache of huggingface_hub. Raises OSError."""
    _open_clip().download_pretrained(_release(architecture))


def _release(architecture: str) -> dict[str, Any]:
    """open_clip's record of a release. Raises UserError where the architecture names none."""
    name, release = _known(architecture)
    if not release:
        tags = _open_clip().list_pretrained_tags_by_model(name)
        raise UserError(
            f"{architecture} names no release that could be downloaded: add one of {tags} behind a colon, or give the "
            "path of a checkpoint as `weights`"
        )
    record: dict[str, Any] = _open_clip().get_pretrained_cfg(name, release)
    return record


@cache
def _known(architecture: str) -> tuple[str, str]:
    """(name, release or nothing). Raises UserError for what open_clip does not know, or cannot do by itself."""
    library = _open_clip()
    name, _, release = architecture.removeprefix(OPEN_CLIP).partition(":")
    config = library.get_model_config(name) if name in library.list_models() else None
    if config is None:
        near = difflib.get_close_matches(name, library.list_models(), n=4, cutoff=0.4)
        raise UserError(f"open_clip knows no network {name!r}. Near it: {near}. All: open_clip.list_models()")
    if "hf_tokenizer_name" in config["text_cfg"] or "siglip" in name.lower():
        raise UserError(
            f"{architecture} reads text by a tokenizer of another package (transformers): only networks with "
            "open_clip's own are teachers here"
        )
    if release:
        tags = library.list_pretrained_tags_by_model(name)
        if not library.is_pretrained_cfg(name, release):
            raise UserError(f"open_clip has no release {release!r} of {name}, only {tags}")
        quick = library.get_pretrained_cfg(name, release).get("quick_gelu", False)
        if quick != config.get("quick_gelu", False):  # open_clip warns, and computes something else
            other = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
            raise UserError(
                f"{architecture} was trained with {'QuickGELU' if quick else 'GELU'}: its network is "
                f"{OPEN_CLIP}{other}:{release}"
            )
    return name, release


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's lines on the root logger: that weights are random, before they are filled in.

    With a handler there, its calls do not set up another one, by which every line of ours would be told twice.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(handler)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _open_clip() -> Any:
    try:
        import open_clip
        import open_clip.constants
        import open_clip.transform
    except ImportError:
        raise UserError(f"a teacher of open_clip needs the extra `open_clip`: {EXTRA}") from None
    return open_clip
