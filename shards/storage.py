"""Where a shard folder is: a plain path, or anything with `://`, which goes through fsspec."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, TypeVar

import fsspec

from shards.errors import UserError
from shards.files import patiently

FETCHES = 32  # small files under way at once, from a URL

Answer = TypeVar("Answer")


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


def is_missing(error: FileNotFoundError) -> bool:
    """Whether the other side said so: fsspec's http says this for every answer that is not the file, and for none."""
    cause = error.__cause__
    is_answer = isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) in (404, 410)
    return is_answer or not isinstance(cause, network_errors())


def names_in(location: str) -> set[str]:
    """Names of the files in a folder; none where there is no folder. Raises UserError where a URL fails thrice."""
    if not is_remote(location):
        return set(os.listdir(location)) if os.path.isdir(location) else set()
    system, root = file_system(location)

    def listed() -> list[str]:
        system.invalidate_cache()
        try:
            return list(system.ls(root, detail=False))
        except FileNotFoundError as error:  # asked `exists`, http would say no to any failure
            if is_missing(error):
                return []
            raise

    with reaching(location):
        return {path.rsplit("/", 1)[-1] for path in patiently(listed, network_errors())}


def fetch_into(folder: str, location: str, names: Iterable[str]) -> None:
    """Copy files of a folder behind a URL, side by side, each tried up to three times. Raises UserError."""
    system, root = file_system(location)

    def fetch(name: str) -> None:
        with reaching(location):
            data = patiently(partial(system.cat_file, f"{root.rstrip('/')}/{name}"), network_errors())
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(data)

    side_by_side(fetch, names)


def side_by_side(read: Callable[[str], Answer], names: Iterable[str]) -> list[Answer]:
    """What is read of each name, in their order, in threads, since it is mostly waited for. Raises the first error."""
    with ThreadPoolExecutor(FETCHES) as pool:
        return list(pool.map(read, names))


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
