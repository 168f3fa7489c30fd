"""Where a shard folder is: a plain path, or anything with `://`, which goes through fsspec."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec

from shards.errors import UserError


def is_remote(location: str) -> bool:
    return "://" in location


def file_system(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Raises UserError where its package is not installed."""
    try:
        system, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise UserError(f"{location} cannot be opened: {error}") from None
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
    """Raise UserError, in one line, where the other side fails."""
    try:
        yield
    except network_errors() as error:
        raise UserError(f"{location} cannot be reached: {type(error).__name__}: {error}") from None


def names_in(location: str) -> set[str]:
    """Names of the files in a folder; none where there is no folder."""
    if not is_remote(location):
        return set(os.listdir(location)) if os.path.isdir(location) else set()
    system, root = file_system(location)
    return {path.rsplit("/", 1)[-1] for path in system.ls(root, detail=False)} if system.exists(root) else set()


def address(root: str, path: str) -> str:
    """Where a path of a folder is, which may be a URL by itself: a local path, or a URL."""
    if is_remote(path):
        return path
    return under(root, path) if is_remote(root) else os.path.join(root, path)


@contextmanager
def open_place(place: str) -> Iterator[IO[bytes]]:
    """A local path or a URL, for reading. Raises `network_errors`."""
    if not is_remote(place):
        with open(place, "rb") as stream:
            yield stream
        return
    system, name = file_system(place)  # kept while its file is open: a zip closes with its last reference
    with system.open(name, "rb") as stream:
        yield stream


def under(root: str, path: str) -> str:
    """The URL of a path in a folder behind a URL, of which the first part of a chain (zip://a::s3://b) is meant."""
    first, chain, rest = root.partition("::")
    return f"{first}{'' if first.endswith('/') else '/'}{path}{chain}{rest}"
