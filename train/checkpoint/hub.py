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

from shards.cli.commands import install
from shards.errors import ContractError, UserError, require_same
from shards.files import writable_folder, write_whole
from train.checkpoint.checkpoint import Checkpoint, load, save
from train.checkpoint.modelcard import RECORDED, card_of
from train.checkpoint.safetensors_file import SUFFIX, read_header

WEIGHTS, CONFIG, CARD = f"model{SUFFIX}", "config.json", "README.md"
KIND = {"model_type": "soundnet"}
# OWNER/NAME, or OWNER/NAME@REVISION: a branch, a tag or a commit
REPOSITORY = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>(?!.*\.\.)[A-Za-z0-9][\w./-]*))?", re.ASCII
)
MOST_CONFIG_BYTES = 2**24
EXTRA = install("hub")
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
    writable_folder(folder)
    known = {name: value for name, value in checkpoint.config.items() if name in PUBLIC}
    save(folder / WEIGHTS, replace(checkpoint, config=known))
    write_whole(folder / CONFIG, (json.dumps({**KIND, **read_header(folder / WEIGHTS)}, indent=1) + "\n").encode())
    write_whole(folder / CARD, (METADATA + card_of(checkpoint, folder.resolve().name, rows, hub=True)).encode())
    if load(checkpoint_file(folder)).network_sha256 != checkpoint.network_sha256:
        raise ContractError(f"{folder}: its tensors are not those of the checkpoint. Try another disk")


def checkpoint_file(given: Path) -> Path:
    """The file of a checkpoint: itself, that of such a folder, or of OWNER/NAME or OWNER/NAME@REVISION on Hugging Face.

    A name is fetched where no file or folder is called so: the weights and config.json, and nothing else. Raises
    UserError, and ContractError where the two differ.
    """
    if given.is_dir():
        return _checked(given)
    repository = None if given.exists() or given.suffix in (".pt", SUFFIX) else REPOSITORY.fullmatch(str(given))
    return given if repository is None else _checked(_fetched(repository["name"], repository["revision"]))


def _checked(folder: Path) -> Path:
    """The weights' file of a folder whose config.json says what the file does."""
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}, so it is no checkpoint: give a file, or a folder that `make export "
                "format=hub` wrote"
            )
    if (folder / CONFIG).stat().st_size > MOST_CONFIG_BYTES:
        raise UserError(
            f"{folder / CONFIG} has more than {MOST_CONFIG_BYTES:,} bytes, which is too large to be ours: fetch the "
            "folder again"
        )
    try:
        config: Any = json.loads((folder / CONFIG).read_bytes())
        header = read_header(folder / WEIGHTS)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder} is no checkpoint of this program: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG} is not a JSON object, so it holds no settings: fetch the folder again")
    require_same({**KIND, **header}, config, str(folder / CONFIG), "Fetch the folder again.", this=WEIGHTS)
    return folder / WEIGHTS


def _fetched(name: str, revision: str | None) -> Path:
    """The folder of a repository, at its main branch or a revision, in Hugging Face's own cache. Raises UserError."""
    given = name if revision is None else f"{name}@{revision}"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
    except ImportError:
        raise UserError(
            f"there is no file or folder {given} here; to fetch a checkpoint of that name from Hugging Face: {EXTRA}"
        ) from None
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[WEIGHTS, CONFIG]))
    except RevisionNotFoundError:
        raise UserError(
            f"there is no file or folder {given} here, and {name} on Hugging Face has no branch, tag or commit "
            f"{revision or 'main'}"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"there is no file or folder {given} here, and Hugging Face gives no checkpoint of that name: {reason}"
        ) from None
