"""A checkpoint as a folder that Hugging Face knows, and back: model.safetensors, config.json, README.md; no code in it.

The weights' file is a checkpoint itself (safetensors_file.py). config.json says the same as its header, for whoever
looks without fetching the weights; a folder where the two differ is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.errors import ContractError, UserError, require_same
from shards.files import write_whole
from train.checkpoint.checkpoint import Checkpoint, load, save
from train.checkpoint.modelcard import RECORDED, card_of
from train.checkpoint.safetensors_file import SUFFIX, read_header

WEIGHTS, CONFIG, CARD = f"model{SUFFIX}", "config.json", "README.md"
KIND = {"model_type": "soundnet"}
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # owner/name
MOST_CONFIG_BYTES = 2**24
EXTRA = "pip install 'soundnet[hub]'"
# Of a checkpoint's settings, those that are shown to others: the rest may name folders of this machine.
PUBLIC = (*RECORDED, "sha256", "supervised")

METADATA = """\
---
library_name: soundnet
pipeline_tag: audio-classification
license: unknown
tags:
- audio
- soundnet
- feature-extraction
---

"""


def write_folder(folder: Path, checkpoint: Checkpoint, rows: list[tuple[str, str]]) -> None:
    """Raises UserError where the folder cannot be, ContractError where the tensors do not come back as they were."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder}: format=hub makes a folder, and this is a file")
    folder.mkdir(parents=True, exist_ok=True)
    known = {name: value for name, value in checkpoint.config.items() if name in PUBLIC}
    save(folder / WEIGHTS, replace(checkpoint, config=known))
    write_whole(folder / CONFIG, (json.dumps({**KIND, **read_header(folder / WEIGHTS)}, indent=1) + "\n").encode())
    write_whole(folder / CARD, (METADATA + card_of(checkpoint, folder.resolve().name, rows, hub=True)).encode())
    if load(checkpoint_file(folder)).network_sha256 != checkpoint.network_sha256:
        raise ContractError(f"{folder}: its tensors are not those of the checkpoint. Try another disk")


def checkpoint_file(given: Path) -> Path:
    """The file of a checkpoint: itself, that of such a folder, or of owner/name, which is fetched where it is not here.

    Nothing but the weights and config.json is fetched. Raises UserError, and ContractError where the two differ.
    """
    if given.is_dir():
        return _checked(given)
    if given.exists() or given.suffix in (".pt", SUFFIX) or not REPOSITORY.fullmatch(str(given)):
        return given
    return _checked(_fetched(str(given)))


def _checked(folder: Path) -> Path:
    """The weights' file of a folder whose config.json says what the file does."""
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: it is no folder of format=hub, and nothing else in it is read")
    if (folder / CONFIG).stat().st_size > MOST_CONFIG_BYTES:
        raise UserError(f"{folder / CONFIG} is larger than any of ours: fetch the folder anew")
    try:
        config: Any = json.loads((folder / CONFIG).read_bytes())
        header = read_header(folder / WEIGHTS)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder} is no checkpoint of this program: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG} holds no settings: fetch the folder anew")
    require_same({**KIND, **header}, config, str(folder / CONFIG), "Fetch the folder anew.", this=WEIGHTS)
    return folder / WEIGHTS


def _fetched(name: str) -> Path:
    """The folder of owner/name in Hugging Face's own cache. Raises UserError."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UserError(
            f"there is no checkpoint {name} here; to fetch one of that name from Hugging Face: {EXTRA}"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"there is no checkpoint {name} here, and Hugging Face gives none: {reason}") from None
