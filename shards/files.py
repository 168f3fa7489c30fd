"""Files: replaced whole or not at all, locked, hashed; and an action tried again where its error may pass."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, TypeVar

from shards.errors import UserError

ATTEMPTS = 3
BLOCK_BYTES = 1024 * 1024

Answer = TypeVar("Answer")


def partial_of(path: Path, *, unique: bool = False) -> Path:
    """The name under which `path` is written; a unique one where two processes may write it at the same time."""
    return path.with_name(f"{path.name}.{token_hex(4)}.partial" if unique else f"{path.name}.partial")


def put_in_place(partial: Path, path: Path) -> None:
    """Flush a file that is written and closed to disk, then rename it: a file that exists under its name is whole."""
    with open(partial, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, path)


@contextmanager
def replacing(path: Path, *, unique: bool = False) -> Iterator[Path]:
    """Yield the temporary name to write `path` under; put in place afterwards, removed if an error ends the block."""
    partial = partial_of(path, unique=unique)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file by `data`, or leave what was there."""
    with replacing(path) as partial:
        partial.write_bytes(data)


@contextmanager
def locked(path: Path, *, wait: bool = True, instead: str = "another folder") -> Iterator[IO[bytes] | None]:
    """Hold an exclusive lock on a file, created if need be; yields the open file, or None where another holds it.

    The lock is the kernel's (flock): other threads and other processes see it, and it vanishes with the process that
    held it. Raises UserError where the file system has no locks; `instead` names the setting that leads elsewhere.
    """
    while True:
        # NFS locks only what is open for writing.
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
            except BlockingIOError:
                held = False
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                raise UserError(
                    f"{path}: this file system has no locks ({error.strerror}), and without them runs would not see "
                    f"each other: mount it with them (Lustre: flock), or give {instead}"
                ) from None
            if not held or _is_at(path, stream):
                yield stream if held else None
                return


def _is_at(path: Path, stream: IO[bytes]) -> bool:
    """Whether the path leads to the open file: it may have been renamed or removed while we waited for its lock."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def sha256_of(source: Path | IO[bytes], block_read: Callable[[], None] = lambda: None) -> str:
    """The hash of a file, or of what is left of an open one, in hex digits; `block_read` is called after each MiB."""
    if isinstance(source, Path):
        with open(source, "rb") as stream:
            return sha256_of(stream, block_read)
    digest = hashlib.sha256()
    while block := source.read(BLOCK_BYTES):
        digest.update(block)
        block_read()
    return digest.hexdigest()


def patiently(action: Callable[[], Answer], passing: tuple[type[Exception], ...]) -> Answer:
    """What `action` returns, tried up to ATTEMPTS times with pauses of 1, 2, ... s after errors that may pass.

    The last attempt's error is raised.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except passing:
            time.sleep(attempt)
    return action()
