"""Writing one shard: a plain tar under a temporary name, flushed, renamed, and then its side file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray
from webdataset.writer import TarWriter

from shards.errors import UserError
from shards.files import partial_of, put_in_place, sha256_of
from shards.format.codec import checksum, encode, encode_labels
from shards.format.example import ClipMeta, Example, MediaAccount
from shards.format.sidefile import Reject, SideFile, index_members
from shards.media.levels import levels

# The libraries whose versions decide the bytes of a shard.
LIBRARIES = ("av", "numpy", "pillow", "soundfile", "torch", "torchvision", "webdataset")


class ShardWriter:
    """Collects the examples of one shard; `finish` puts tar and side file in place, `close` removes the rest."""

    def __init__(self, folder: Path, shard: str, *, sample_rate: int, audio: str = "wav") -> None:
        self.folder, self.shard, self.sample_rate, self.audio = folder, shard, sample_rate, audio
        # A unique name: what outlives a killed run on a cluster must not rename another's half of a tar.
        self._partial = partial_of(folder / f"{shard}.tar", unique=True)
        self._stream = open(self._partial, "wb")  # noqa: SIM115 - closed by finish or close
        # Fixed times, owner and order: the same examples give the same bytes.
        self._tar = TarWriter(self._stream, mtime=0, user="", group="", encoder=False)
        self._keys: list[str] = []
        self._samples: list[int] = []
        self._windows: list[int] = []
        self._metas: list[ClipMeta] = []  # of examples with sound
        self._members: set[str] = set()  # the same for every clip
        self._checksums: dict[str, list[int]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}

    def write(self, example: Example) -> None:
        """Add a clip; its sound is measured here, and the levels go into its json and the side file."""
        peak, rms = levels(example.waveform)
        example = replace(example, meta=replace(example.meta, peak_db=peak, rms_db=rms))
        sample = encode(example, self.sample_rate, self.audio)
        self._add(sample)
        self._metas.append(example.meta)
        self._checksums.setdefault(self.audio, []).append(checksum(example.waveform))
        self._checksums.setdefault("json", []).append(checksum(np.frombuffer(cast(bytes, sample["json"]), np.uint8)))
        self._count(example.key, len(example.waveform), example.posteriors)

    def write_labels(self, key: str, samples: int, posteriors: dict[str, NDArray[np.float16]]) -> None:
        """Another teacher set's labels of a clip that has its sound elsewhere."""
        self._add(encode_labels(key, posteriors))
        self._count(key, samples, posteriors)

    def _add(self, sample: dict[str, str | bytes]) -> None:
        self._members = self._members or set(sample)
        if set(sample) != self._members:  # programs that read a tar as a table refuse it, or lose what is not in all
            raise ValueError(f"{sample['__key__']!r} has other members than the clips before: {sorted(sample)}")
        with self._writing():
            self._tar.write(sample)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder / self.shard}.tar cannot be written: {error.strerror}. Finished shards stay; make room "
                "and run the same command again"
            ) from None

    def _count(self, key: str, samples: int, posteriors: dict[str, NDArray[np.float16]]) -> None:
        self._keys.append(key)
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
            self._tar.close()
            self._stream.close()
        index = index_members(self._partial)
        extensions = sorted({extension for members in index.values() for extension in members})
        side = SideFile(
            shard=self.shard,
            tar_bytes=self._partial.stat().st_size,
            tar_sha256=sha256_of(self._partial),
            keys=self._keys,
            samples=self._samples,
            windows=self._windows,
            peak_db=[meta.peak_db for meta in self._metas],
            rms_db=[meta.rms_db for meta in self._metas],
            given=[meta.given for meta in self._metas],
            members={extension: [index[key].get(extension) for key in self._keys] for extension in extensions},
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
        with suppress(OSError, ValueError):
            self._tar.close()
        with suppress(OSError):
            self._stream.close()
        self._partial.unlink(missing_ok=True)
