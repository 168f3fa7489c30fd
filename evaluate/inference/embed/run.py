"""`make embed`: sounds in, one layer's features out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.inference.embed.store import Store
from evaluate.inference.features import features_of
from evaluate.inference.inputs import find_sounds, progress, say
from evaluate.inference.posteriors import hear
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.media.file import UnreadableMedia
from shards.media.waveform import RESAMPLER, stream_waveform
from train.device.device import require_device
from train.model.student import Student, Trunk, scaled

Rows = tuple[NDArray[np.float64], NDArray[np.float32]]  # seconds (rows,), features (rows, channels)


@dataclass
class EmbedSettings:
    """conf/embed.yaml. Sample rate and layers come with the checkpoint."""

    files: list[Path] = field(metadata={"example": "/my/sounds"})
    checkpoint: Path = field(metadata={"example": "data/published/soundnet8.pt"})
    out: Path = Path("outputs/features.npz")
    layer: str = "pool5"
    over_time: bool = False
    device: str = "cpu"

    @property
    def folder(self) -> Path:
        """Where each sound's own features are; beside an .npz, which is put together from them."""
        return self.out.with_name(f"{self.out.name}.parts") if self.is_joined else self.out

    @property
    def is_joined(self) -> bool:
        return self.out.suffix.lower() == ".npz"


def run(settings: EmbedSettings) -> None:
    """Hear what has not been heard, join all. Raises UserError, at the end where some could not be read."""
    paths = find_sounds(settings.files)
    require_device(settings.device)
    subject = EvaluatedModel.load(settings.checkpoint, settings.device)
    subject.network.min_samples(settings.layer)  # refuses a layer that is not there
    facts = {
        "checkpoint": subject.sha256,
        "layer": settings.layer,
        "over_time": settings.over_time,
        "resampler": RESAMPLER,
    }
    store = Store(settings.folder, facts)
    embedder = Embedder(subject.network, subject.checkpoint.clip, settings.layer, settings.over_time, settings.device)
    with store.opened():
        unreadable = embed_missing(store, embedder, paths)
        whole = [path for path in paths if path not in unreadable]
        if whole and settings.is_joined:
            store.join(settings.out, whole, unreadable, over_time=settings.over_time)
    print(f"{settings.out}: {settings.layer} of {len(whole)} of {len(paths)} files")
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(paths)} files could not be read, as said above and noted in {settings.folder}"
        )


def embed_missing(store: Store, embedder: Embedder, paths: Sequence[Path]) -> dict[Path, str]:
    """Hear what the store does not have; {path: reason} of what cannot be read."""
    missing = [path for path in paths if store.record(path) is None]
    if len(missing) < len(paths):
        print(f"{len(paths) - len(missing)} of {len(paths)} are there already")
    unreadable = {}
    for path in progress(missing, f"hearing up to {embedder.layer}"):
        try:
            store.keep(path, embedder.embed(path))
        except UnreadableMedia as error:
            unreadable[path] = str(error)
            say(f"{path} cannot be read ({error})")
    return unreadable


@dataclass(frozen=True)
class Embedder:
    """A network at work on files. The output layer gives log posteriors, clip by clip, as `tag` hears them."""

    network: Trunk
    clip: ClipSpec
    layer: str
    over_time: bool
    device: str

    def embed(self, path: Path) -> Iterator[Rows]:
        """The layer's steps with the times of their centres, or one row: the mean. Raises UnreadableMedia."""
        return self._steps(path) if self.over_time else self._mean(path)

    def _steps(self, path: Path) -> Iterator[Rows]:
        pieces = stream_waveform(path, self.clip.sample_rate, lambda line: say(f"{path}: {line}"))
        if isinstance(self.network, Student) and self.layer == self.network.spec.output.name:
            heard = hear(self.network, self.clip, pieces, self.device)
            yield (heard.begins + heard.ends) / 2, np.log(np.hstack(list(heard.posteriors.values())))
            return
        scales = (scaled(torch.from_numpy(piece)[None].to(self.device)) for piece in pieces)
        spec, done = self.network.spec, 0
        for part in features_of(self.network, self.layer, scales):
            rows = part[0].T.float().cpu().numpy()  # (steps, channels)
            centres = spec.centre(done, self.layer) + np.arange(len(rows)) * spec.stride(self.layer)
            yield centres / self.clip.sample_rate, rows
            done += len(rows)

    def _mean(self, path: Path) -> Iterator[Rows]:
        total, count, middle = np.zeros(1), 0, 0.0
        for times, rows in self._steps(path):
            total = total + rows.sum(axis=0, dtype=np.float64)
            middle += float(times.sum())
            count += len(rows)
        yield np.array([middle / count]), (total / count).astype(np.float32)[None]
