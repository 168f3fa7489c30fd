"""Shards from behind a URL, fetched whole into a folder of bounded size that all ranks of a machine share.

A cached tar is named by its hash, so it can never be another version; what stands there under its final name is whole.
The least recently used make room. A partial file is locked by the rank that fetches it, the whole folder while files
come and go.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import fsspec

from shards.errors import UserError
from shards.files import BLOCK_BYTES, locked, patiently
from shards.format.shard import DamagedShard
from shards.loader.tars.store import OpenTar, Tar
from shards.storage import is_missing, network_errors

ELSEWHERE = "streaming.cache=another/folder"


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
        copy = path.with_suffix(".partial")
        with locked(copy, instead=ELSEWHERE):  # one rank fetches, the others wait for it
            if path.exists():
                copy.unlink()
                return
            self._reserve(tar, copy)
            found = self._downloaded(tar, copy)
            with locked(self._lock, instead=ELSEWHERE):
                if found == (tar.bytes, tar.sha256):
                    os.replace(copy, path)
                    return
                copy.unlink()
        raise DamagedShard(
            f"{tar.location} came as {found[0]} bytes with sha256 {found[1]}, its side file says {tar.bytes} bytes "
            f"and {tar.sha256}. Copy the shard there again, or make it again."
        )

    def _downloaded(self, tar: Tar, copy: Path) -> tuple[int, str]:
        try:
            return patiently(partial(_download, tar, copy), passing=network_errors())
        except network_errors() as error:
            if isinstance(error, OSError):
                raise
            raise OSError(f"{tar.location} cannot be read: {type(error).__name__}: {error}") from None

    def _reserve(self, tar: Tar, copy: Path) -> None:
        """Push out the least recently used until this tar fits; its partial file holds the bytes by its length."""
        with locked(self._lock, instead=ELSEWHERE):
            under_way = [path for path in self.folder.glob("*.partial") if not _removed_as_stale(path)]
            here = sorted(self.folder.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
            used = tar.bytes + sum(path.stat().st_size for path in under_way + here)
            for path in here:
                if used > self.limit_bytes:
                    used -= path.stat().st_size
                    path.unlink()
            os.truncate(copy, tar.bytes)


def _download(tar: Tar, copy: Path) -> tuple[int, str]:
    """Bytes and sha256 of what came. A location that holds more than its side file says is not read to its end."""
    digest, count = hashlib.sha256(), 0
    try:
        with fsspec.open(tar.location, "rb") as source, open(copy, "r+b") as target:
            while count <= tar.bytes and (block := source.read(8 * BLOCK_BYTES)):
                digest.update(block)
                count += target.write(block)
            target.flush()
            os.fsync(target.fileno())
    except FileNotFoundError as error:
        if not is_missing(error):  # and the other side may find it at the next try
            raise
        raise DamagedShard(f"{tar.location} is not there any more, though its side file was") from None
    return count, digest.hexdigest()


def _removed_as_stale(copy: Path) -> bool:
    """Remove a partial file that nobody works on: its rank was killed."""
    with locked(copy, wait=False, instead=ELSEWHERE) as held:
        if held is not None:
            copy.unlink()
        return held is not None
