"""A video as a file on this machine: one that is here already, or one behind a URL, streamed once to disk.

Its hash is taken on the way. What FFmpeg opens is a regular file in any case, never an address.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from fsspec.implementations.memory import MemoryFileSystem

from shards.errors import UserError
from shards.files import ATTEMPTS, BLOCK_BYTES, patiently, sha256_of
from shards.media.file import MEDIA_SUFFIXES
from shards.media.rejects import UnreadableMedia, unreadable
from shards.storage import file_system, is_missing, is_remote, network_errors, open_place


@dataclass(frozen=True)
class MediaCopy:
    """A file to read; no size and no hash where it is no regular file: its reader says what it is."""

    path: Path
    bytes: int = -1
    sha256: str = ""


@contextmanager
def at_hand(place: str, spool: Path, touch: Callable[[], None], max_bytes: float) -> Iterator[MediaCopy]:
    """The video at a path or URL. `spool`: where to copy it to, removed afterwards. Raises UnreadableMedia;

    OSError where the spool cannot be written."""
    if not is_remote(place):
        path = Path(place)
        try:
            before = _state_of(path)
            digest = "" if before is None else _hash(path, before.st_size, before.st_mtime_ns, before.st_ino, touch)
        except OSError as error:
            raise unreadable(error) from error
        if before is None:
            yield MediaCopy(path)
            return
        yield MediaCopy(path, before.st_size, digest)
        try:
            after = _state_of(path)
        except OSError as error:
            raise unreadable(error) from error
        if after is None or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UnreadableMedia("changed", "the file changed, or vanished, while it was read")
        return
    path = spool.with_suffix(_suffix(place))
    try:
        yield _fetch(place, path, touch, max_bytes)
    finally:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, modified: int, inode: int, touch: Callable[[], None]) -> str:
    """Taken once of a file that stays as it is: a list may have hundreds of its segments."""
    return sha256_of(path, touch)


def _state_of(path: Path) -> os.stat_result | None:
    """Of a regular file; None of anything else, and where there is nothing. Raises OSError."""
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state if stat.S_ISREG(state.st_mode) else None


def _fetch(place: str, path: Path, touch: Callable[[], None], max_bytes: float) -> MediaCopy:
    try:
        return patiently(partial(_copy, place, path, touch, max_bytes), passing=(_Interrupted,))
    except _Interrupted as fault:
        raise UnreadableMedia("unreachable", f"{fault} ({ATTEMPTS} tries)") from None


def _copy(place: str, path: Path, touch: Callable[[], None], max_bytes: float) -> MediaCopy:
    digest, count = hashlib.sha256(), 0
    with open(path, "wb") as target:
        for block in _blocks(place):
            digest.update(block)
            count += target.write(block)
            touch()
            if count > max_bytes:
                raise UnreadableMedia("too_large", f"it has more than reading.max_gigabytes={max_bytes / 1e9:g}")
    return MediaCopy(path, count, digest.hexdigest())


class _Interrupted(Exception):
    """The other side failed in a way that may pass."""


def _blocks(place: str) -> Iterator[bytes]:
    """What is read; errors of the other side are named here, so that those of our own disk are not taken for them."""
    try:
        with open_place(place) as source:
            while block := source.read(BLOCK_BYTES):
                yield block
    except FileNotFoundError as error:
        if not is_missing(error):
            raise _Interrupted(f"{type(error.__cause__).__name__}: {error.__cause__}") from None
        raise UnreadableMedia("not_found", "there is no such file at its URL") from None
    except IsADirectoryError:
        raise UnreadableMedia("not_a_file", "it is a folder") from None
    except PermissionError as error:
        raise UnreadableMedia("no_permission", f"{error}") from None
    except network_errors() as error:
        raise _Interrupted(f"{type(error).__name__}: {error}") from None
    except UserError as error:  # a protocol that is not known, in a row of a list
        raise UnreadableMedia("unreachable", f"{error}") from None


def _suffix(place: str) -> str:
    """FFmpeg goes by a name's end too, where a file's beginning leaves it in doubt."""
    name = place.partition("::")[0].partition("?")[0]
    suffix = posixpath.splitext(name)[1].lower()
    return suffix if suffix in MEDIA_SUFFIXES else ".video"


def within_reach(root: str, place: Path) -> str:
    """Where other processes find the same videos: what is in the memory of this one alone is copied to disk first."""
    if not is_remote(root):
        return root
    system, top = file_system(root)
    if not isinstance(system, MemoryFileSystem):
        return root
    system.get(top, str(place / "memory"), recursive=True)
    return str(place / "memory")
