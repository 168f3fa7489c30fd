"""Shards from behind a URL, fetched whole into a folder of bounded size that all ranks of a machine share.

A cached tar is named by its hash, so it can never be another version; what stands there under its final name is whole.
The least recently used make room. Locks are the kernel's (flock) and vanish with the process that held them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from shards.errors import UserError
from shards.format.shard import DamagedShard
from shards.loader.store import OpenTar, Tar

FETCH_ATTEMPTS = 3
CHUNK_BYTES = 8 * 1024 * 1024


class Cache:
    """Fetches tars into `folder`, which holds at most `limit_bytes` of them, those under way included."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit_bytes = folder, limit_bytes
        self._lock = folder / ".lock"

    def require_room(self, tars: Iterable[Tar], at_once: int) -> None:
        """Raise UserError where the tars needed at one time may not fit: each would push out the next."""
        needed = sum(sorted((tar.bytes for tar in tars), reverse=True)[:at_once])
        if needed > self.limit_bytes:
            raise UserError(
                f"the cache may hold {self.limit_bytes / 1e9:.3g} GB, but the shards of two blocks take up to "
                f"{needed / 1e9:.3g} GB: raise cache_gigabytes or lower block_shards"
            )

    def open(self, tar: Tar) -> OpenTar:
        """The tar, fetched first if it is not here. Raises DamagedShard, or OSError from the network or the disk."""
        path = self.folder / f"{tar.sha256}.tar"
        while True:
            try:
                opened = OpenTar(path)
                os.utime(path)  # most recently used
                return opened
            except FileNotFoundError:  # never here, or pushed out by another rank just now
                self._fetch(tar, path)

    def _fetch(self, tar: Tar, path: Path) -> None:
        partial = path.with_suffix(".partial")
        with _locked(partial):  # one rank fetches, the others wait for it
            if path.exists():
                partial.unlink()
                return
            self._reserve(tar, partial)
            found = _copy_patiently(tar, partial)
            with _locked(self._lock):
                if found == (tar.bytes, tar.sha256):
                    os.replace(partial, path)
                    return
                partial.unlink()
        raise DamagedShard(
            f"{tar.location} came as {found[0]} bytes with sha256 {found[1]}, its side file says {tar.bytes} bytes "
            f"and {tar.sha256}. Copy the shard there again, or make it again."
        )

    def _reserve(self, tar: Tar, partial: Path) -> None:
        """Push out the least recently used until this tar fits; its partial file holds the bytes by its length."""
        with _locked(self._lock):
            under_way = [path for path in self.folder.glob("*.partial") if not _removed_as_stale(path)]
            here = sorted(self.folder.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
            used = tar.bytes + sum(path.stat().st_size for path in under_way + here)
            for path in here:
                if used > self.limit_bytes:
                    used -= path.stat().st_size
                    path.unlink()
            os.truncate(partial, tar.bytes)


def _copy_patiently(tar: Tar, partial: Path) -> tuple[int, str]:
    attempt = 1
    while True:
        try:
            return _copy(tar, partial)
        except FileNotFoundError:
            raise DamagedShard(f"{tar.location} is not there any more, though its side file was") from None
        except OSError:
            if attempt == FETCH_ATTEMPTS:
                raise
            time.sleep(attempt)
            attempt += 1


def _copy(tar: Tar, partial: Path) -> tuple[int, str]:
    """Bytes and sha256 of what came. A location that holds more than its side file says is not read to its end."""
    digest, count = hashlib.sha256(), 0
    with fsspec.open(tar.location, "rb") as source, open(partial, "r+b") as target:
        while count <= tar.bytes and (chunk := source.read(CHUNK_BYTES)):
            digest.update(chunk)
            count += target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return count, digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, created if need be; other threads and other processes wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(path, descriptor):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path leads to the open file: it may have been renamed or removed while we waited for its lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _removed_as_stale(partial: Path) -> bool:
    """Remove a partial file that nobody works on: its rank was killed."""
    descriptor = os.open(partial, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        partial.unlink()
        return True
    finally:
        os.close(descriptor)
