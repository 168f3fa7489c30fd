"""The pool of open tars: each opened once, ahead of need, and compared with what its side file says.

A tar at a plain path is read in place; one behind a URL comes through the cache.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shards.files import sha256_of
from shards.format.shard import REMEDY_OR_SKIP, DamagedShard
from shards.storage import is_remote


@dataclass(frozen=True)
class Tar:
    """A shard's tar, with the length and hash that its side file gives."""

    location: str  # path or URL
    bytes: int
    sha256: str

    @property
    def shard(self) -> str:
        return self.location.rsplit("/", 1)[-1].removesuffix(".tar")


class OpenTar:
    """A tar held open. It closes with its last reference, so no thread reads from a closed or reused descriptor."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def bytes(self) -> int:
        return os.fstat(self.descriptor).st_size

    def sha256(self) -> str:
        with open(self.descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            return sha256_of(stream)


class TarPool:
    """Opens tars, each once, in threads of its own; the first touch compares the length and, if asked, the hash.

    `open_remote` opens the tars whose location is a URL: `Cache.open`.
    """

    def __init__(
        self, *, verify: bool = False, open_remote: Callable[[Tar], OpenTar] | None = None, threads: int = 4
    ) -> None:
        self._verify, self._open_remote = verify, open_remote
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tars")
        self._tars: dict[Tar, Future[OpenTar]] = {}
        self._lock = threading.Lock()  # of `_tars`
        self._verified: set[Tar] = set()

    def get(self, tar: Tar) -> Future[OpenTar]:
        """The tar, opened by then; `result` raises DamagedShard, or OSError where it cannot be fetched."""
        with self._lock:
            if tar not in self._tars:
                self._tars[tar] = self._threads.submit(self._open_whole, tar)
            return self._tars[tar]

    def prefetch(self, tars: Sequence[Tar]) -> None:
        """Begin to open or fetch what is needed from now on, in this order; all other tars are let go."""
        for tar in tars:
            self.get(tar)
        wanted = set(tars)
        with self._lock:
            self._tars = {tar: future for tar, future in self._tars.items() if tar in wanted}

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._tars.clear()

    def _open_whole(self, tar: Tar) -> OpenTar:
        if is_remote(tar.location) and self._open_remote is not None:
            return self._open_remote(tar)  # compared with its hash when it was fetched
        try:
            opened = OpenTar(Path(tar.location))
        except OSError as error:
            raise DamagedShard(f"{tar.location} cannot be opened: {error.strerror}. {REMEDY_OR_SKIP}") from None
        if opened.bytes != tar.bytes:
            raise DamagedShard(
                f"{tar.location} has {opened.bytes} bytes, its side file says {tar.bytes}. {REMEDY_OR_SKIP}"
            )
        if self._verify and tar not in self._verified:
            if (found := opened.sha256()) != tar.sha256:
                raise DamagedShard(
                    f"{tar.location} has sha256 {found}, its side file says {tar.sha256}. {REMEDY_OR_SKIP}"
                )
            self._verified.add(tar)
        return opened
