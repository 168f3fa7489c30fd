"""Writing one shard: a plain tar under a temporary name, flushed, renamed, and then its side file."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError
from shards.files import partial_of, put_in_place
from shards.format.example import ClipMeta, EncodedExample, Example, MediaAccount
from shards.format.members import checksum, encode_labels, members_of, with_encoded_sound
from shards.format.sidefile import Reject, SideFile

# The libraries whose versions decide the bytes of a shard.
LIBRARIES = ("av", "numpy", "pillow", "soundfile", "torch", "torchvision")


class HashedTar:
    """A tar under way, ustar as Python's `tarfile` writes it, hashed as it grows: no byte of it is read again.

    Fixed times, owner and mode: the same members in the same order give the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "wb")  # noqa: SIM115 - closed by finish or close
        self._digest = hashlib.sha256()
        self.bytes = 0

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a file. Returns the offset and the bytes of its payload."""
        head = tarfile.TarInfo(name)
        head.size, head.mode = len(data), 0o444
        self._append(head.tobuf(tarfile.USTAR_FORMAT))
        place = self.bytes, len(data)
        self._append(data)
        self._append(bytes(-len(data) % tarfile.BLOCKSIZE))
        return place

    def finish(self) -> str:
        """Write the end of the archive and close the file. Returns its SHA-256 in hex digits."""
        end = 2 * tarfile.BLOCKSIZE
        self._append(bytes(end + -(self.bytes + end) % tarfile.RECORDSIZE))
        self._stream.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._stream.close()

    def _append(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.bytes += len(data)


class ShardWriter:
    """Collects the examples of one shard; `finish` puts tar and side file in place, `close` removes the rest."""

    def __init__(self, folder: Path, shard: str, *, sample_rate: int, audio: str = "wav") -> None:
        self.folder, self.shard, self.sample_rate, self.audio = folder, shard, sample_rate, audio
        # A unique name: what outlives a killed run on a cluster must not rename another's half of a tar.
        self._partial = partial_of(folder / f"{shard}.tar", unique=True)
        self._tar = HashedTar(self._partial)
        self._samples: list[int] = []
        self._windows: list[int] = []
        self._metas: list[ClipMeta] = []  # of examples with sound
        self._members: dict[str, dict[str, tuple[int, int]]] = {}  # places by key and extension
        self._checksums: dict[str, list[int]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}

    def write(self, example: Example | EncodedExample) -> None:
        """Add a clip. The levels of its sound go into its json and the side file."""
        if isinstance(example, Example):
            example = with_encoded_sound(example, self.sample_rate, self.audio)
        facts = example.facts
        meta = replace(example.meta, peak_db=facts.peak_db, rms_db=facts.rms_db)
        members = members_of(replace(example, meta=meta), self.audio)
        self._add(example.key, members)
        self._metas.append(meta)
        self._checksums.setdefault(self.audio, []).append(facts.checksum)
        self._checksums.setdefault("json", []).append(checksum(np.frombuffer(members["json"], np.uint8)))
        self._count(facts.samples, example.posteriors)

    def write_labels(self, key: str, samples: int, posteriors: dict[str, NDArray[np.float16]]) -> None:
        """Another teacher set's labels of a clip that has its sound elsewhere."""
        self._add(key, encode_labels(posteriors))
        self._count(samples, posteriors)

    def _add(self, key: str, members: dict[str, bytes]) -> None:
        first = next(iter(self._members.values()), members)
        if members.keys() != first.keys():  # programs that read a tar as a table refuse it, or lose what is not in all
            raise ValueError(f"{key!r} has other members than the clips before: {sorted(members)}")
        if key in self._members:
            raise ValueError(f"{key!r} is in {self.shard} already")
        with self._writing():
            self._members[key] = {name: self._tar.add(f"{key}.{name}", members[name]) for name in sorted(members)}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder / self.shard}.tar cannot be written: {error.strerror}. Finished shards stay; make room "
                "and run the same command again"
            ) from None

    def _count(self, samples: int, posteriors: dict[str, NDArray[np.float16]]) -> None:
        self._samples.append(samples)
        self._windows.append(len(next(iter(posteriors.values()))))
        for head, posterior in posteriors.items():
            self._checksums.setdefault(f"{head}.npy", []).append(checksum(posterior))
            self._sums[head] = self._sums.get(head, np.zeros(1)) + posterior.astype(np.float64).sum(axis=0)

    def finish(
        self,
        *,
        rejects: Sequence[Reject] = (),
        dropped: Sequence[Reject] = (),
        media: Mapping[str, MediaAccount] = MappingProxyType({}),
        video_hashes: dict[str, str] | None = None,
    ) -> SideFile:
        """Rename the tar into place, then its side file: a shard with a side file is whole.

        `media` has the account of each accepted video by its path, and segment.
        """
        with self._writing():
            digest = self._tar.finish()
        extensions = next(iter(self._members.values()), {})  # the same for every clip
        side = SideFile(
            shard=self.shard,
            tar_bytes=self._tar.bytes,
            tar_sha256=digest,
            keys=list(self._members),
            samples=self._samples,
            windows=self._windows,
            peak_db=[meta.peak_db for meta in self._metas],
            rms_db=[meta.rms_db for meta in self._metas],
            given=[meta.given for meta in self._metas],
            members={extension: [places[extension] for places in self._members.values()] for extension in extensions},
            checksums=self._checksums,
            posterior_sums={head: total.tolist() for head, total in self._sums.items()},
            rejects=list(rejects),
            dropped=list(dropped),
            media=sum(media.values(), MediaAccount()).rounded(),
            mostly_unused=[path for path, account in media.items() if account.is_mostly_unused],
            video_hashes=video_hashes or {},
            libraries={name: version(name) for name in LIBRARIES},
        )
        with self._writing():
            put_in_place(self._partial, self.folder / f"{self.shard}.tar")
            side.save(self.folder)
        return side

    def close(self) -> None:
        """Give the shard up, if it is not finished. What cannot be written any more is not missed."""
        with suppress(OSError):
            self._tar.close()
        self._partial.unlink(missing_ok=True)
