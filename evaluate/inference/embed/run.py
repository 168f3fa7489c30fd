"""`make embed`: sounds in, one layer's features out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluate.inference.embed.hear import Embedder
from evaluate.inference.embed.store import Store
from evaluate.inference.inputs import find_sounds
from evaluate.inference.progress import progress, say
from evaluate.model import Subject
from shards.format.manifest import ContractError
from shards.media.file import UnreadableMedia
from shards.media.waveform import RESAMPLER
from train.device.device import require_device


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
    """Hear what has not been heard, join all. Raises ContractError, at the end where some could not be read."""
    paths = find_sounds(settings.files)
    require_device(settings.device)
    subject = Subject.load(settings.checkpoint, settings.device)
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
        raise ContractError(
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
