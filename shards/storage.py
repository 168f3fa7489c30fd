"""Where a shard folder is: a plain path, or anything with `://`, which goes through fsspec."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from shards.format.manifest import NAME, ContractError


def is_remote(location: str) -> bool:
    return "://" in location


def file_system(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Raises ContractError where its package is not installed."""
    try:
        system, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise ContractError(f"{location} cannot be opened: {error}") from None
    return system, path


# Errors of the packages below fsspec that are no OSError and that it lets through: known once they are imported.
FOREIGN = {
    "aiohttp": "ClientError",
    "azure.core.exceptions": "AzureError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
}


def network_errors() -> tuple[type[Exception], ...]:
    """What a file system raises when the other side fails."""
    known = [(sys.modules[module], name) for module, name in FOREIGN.items() if module in sys.modules]
    return (OSError, *(getattr(module, name) for module, name in known))


@contextmanager
def reaching(location: str) -> Iterator[None]:
    """Raise ContractError, in one line, where the other side fails."""
    try:
        yield
    except network_errors() as error:
        raise ContractError(f"{location} cannot be reached: {type(error).__name__}: {error}") from None


def names_in(location: str) -> set[str]:
    """Names of the files in a folder; none where there is no folder."""
    if not is_remote(location):
        return set(os.listdir(location)) if os.path.isdir(location) else set()
    system, root = file_system(location)
    return {path.rsplit("/", 1)[-1] for path in system.ls(root, detail=False)} if system.exists(root) else set()


@contextmanager
def metadata(location: str, split: str) -> Iterator[tuple[Path, list[str]]]:
    """The folder to load the manifest and a split's side files from, and the names of the split's shards, sorted.

    For a URL the folder is a temporary copy. Raises ContractError where a URL holds no manifest.
    """
    names = names_in(location)
    shards = sorted(name[:-5] for name in names if name.startswith(f"{split}-") and name.endswith(".json"))
    if not is_remote(location):
        yield Path(location), shards
        return
    if NAME not in names:
        raise ContractError(
            f"{location} holds no {NAME}: copy a whole shard folder there, made by `make teacher-shards`"
        )
    system, root = file_system(location)
    wanted = [NAME, *(f"{shard}.json" for shard in shards)]
    with tempfile.TemporaryDirectory() as folder:
        system.get([f"{root}/{name}" for name in wanted], [f"{folder}/{name}" for name in wanted])
        yield Path(folder), shards


def require_there(files: Iterable[str]) -> None:
    """Raise ContractError, before anything is read, where files are missing from their folders."""
    folders: dict[str, set[str]] = {}
    for file in files:
        folder, name = file.rsplit("/", 1)
        if folder not in folders:
            folders[folder] = names_in(folder)
        if name not in folders[folder]:
            raise ContractError(
                f"{folder} holds {Path(name).with_suffix('.json')} but not {name}: put it back, or delete the .json "
                "and make the shard again with the same `make` command"
            )
