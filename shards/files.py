"""Files: replaced whole or not at all, locked, hashed; folders for a while; an action tried again that may succeed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile, mkdtemp
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
    """Yield the temporary name to write `path` under; put in place afterwards, removed if an error ends the block.

    An OSError that names no file, as that of a full disk, is raised again with the name of this one.
    """
    partial = partial_of(path, unique=unique)
    _require_replaceable(path)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file by `data`, or leave what was there."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def writable_folder(folder: Path) -> Path:
    """A folder for results, made if need be, before the work that fills it. Raises OSError where none can be."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        error.filename = str(folder)
        raise
    return folder


def writable_file(path: Path, inputs: Iterable[Path] = ()) -> Path:
    """The same for one file. Raises UserError too where it would replace one of `inputs`, or what is no file."""
    _require_replaceable(path)
    if any(each.exists() and path.samefile(each) for each in inputs if path.exists()):
        raise UserError(f"{path} would be replaced, and is to be read: give another path to write to")
    writable_folder(path.parent)
    return path


def _require_replaceable(path: Path) -> None:
    """Raise OSError for a folder, UserError for a device or a pipe, which a rename would replace by a file."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    is_link_to_stream = path.is_symlink() and os.readlink(path).startswith("/proc/")  # /dev/stdout
    if is_link_to_stream or (path.exists() and not path.is_file()):
        raise UserError(f"{path} is a device or a pipe, and a file is needed: give another path")


def append_line(path: Path, line: str) -> None:
    """Add a line at the end of a file. An OSError names the file, which that of a full disk does not of itself."""
    try:
        with open(path, "a") as stream:
            stream.write(f"{line}\n")
    except OSError as error:
        error.filename = str(path)
        raise


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


@contextmanager
def own_folder(place: Path, name: str, *, least_bytes: float = 0, instead: str = "another folder") -> Iterator[Path]:
    """A folder `<name>-...` in `place` for this process, gone afterwards. What killed ones left there goes before.

    Raises UserError where nothing can be written, or less than `least_bytes`; `instead` is as for `locked`.
    """
    with ExitStack() as held:
        try:
            place.mkdir(parents=True, exist_ok=True)
            for other in place.glob(f"{name}-*"):
                with suppress(OSError), locked(other / "lock", wait=False, instead=instead) as free:
                    if free is not None:
                        shutil.rmtree(other, ignore_errors=True)
            folder = _locked_folder(place, name, held, instead)
        except OSError as error:
            raise UserError(f"{place} cannot be written: {error.strerror}. Mend it, or give {instead}") from None
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        if (free_bytes := shutil.disk_usage(place).free) < least_bytes:
            raise UserError(
                f"{place} has {free_bytes / 1e6:.0f} MB free, and this run wants {least_bytes / 1e6:.0f} MB at least: "
                f"make room, or give {instead}"
            )
        yield folder


def _locked_folder(place: Path, name: str, held: ExitStack, instead: str) -> Path:
    """A new folder with a lock in it, by which others see that it is in use."""
    while True:
        folder = Path(mkdtemp(prefix=f"{name}-", dir=place))
        with suppress(FileNotFoundError):  # before we had the lock, another process took the folder for a left one
            held.enter_context(locked(folder / "lock", instead=instead))
            return folder


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
