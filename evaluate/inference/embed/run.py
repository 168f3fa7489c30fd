"""`make embed`: one layer's features of each sound, over time or their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluate.inference.embed.store import FeatureStore
from evaluate.inference.features import mean_of, steps_of
from evaluate.inference.inputs import find_sounds, log, progress, stream_sound
from evaluate.model import EvaluatedModel
from shards.cli.words import amount
from shards.errors import UserError
from shards.files import writable_file
from shards.media.rejects import UnreadableMedia
from shards.media.waveform import RESAMPLER
from train.device.device import available_device
from train.device.threads import side_by_side


@dataclass
class EmbedSettings:
    """conf/embed.yaml. Sample rate and layers come with the checkpoint."""

    # a sound or video, a folder of them, or a .txt list of them
    files: list[Path] = field(metadata={"example": "/my/sounds"})
    # a checkpoint of `make published`, `make train` or `make finetune`, or OWNER/NAME[@REVISION] on Hugging Face
    checkpoint: Path = Path("data/published/soundnet8.pt")
    # an .npz file, with a folder .npz.parts beside it; or a folder, with three files for each sound
    out: Path = Path("outputs/features.npz")
    layer: str = "pool5"  # the layer; the output layer gives log posteriors
    over_time: bool = False  # true: every step with its time; false: the mean over each sound
    device: str = "auto"  # cpu, cuda, or auto (the GPU where there is one)

    @property
    def folder(self) -> Path:
        """Where each sound's own features are; beside an .npz, which is put together from them."""
        return self.out.with_name(f"{self.out.name}.parts") if self.is_joined else self.out

    @property
    def is_joined(self) -> bool:
        return self.out.suffix.lower() == ".npz"


def run(settings: EmbedSettings) -> None:
    """Compute the features that are not there yet, then join all.

    Raises UserError, at the end where some files could not be read.
    """
    paths = find_sounds(settings.files)
    if settings.is_joined:
        writable_file(settings.out, [*paths, settings.checkpoint])
    model = EvaluatedModel.load(settings.checkpoint, available_device(settings.device))
    model.network.min_samples(settings.layer)  # refuses a layer that is not there
    facts = {
        "checkpoint": model.sha256,
        "layer": settings.layer,
        "over_time": settings.over_time,
        "resampler": RESAMPLER,
    }
    store = FeatureStore(settings.folder, facts)
    with store.locked():
        unreadable = embed_missing(store, model, paths)
        whole = [path for path in paths if path not in unreadable]
        if whole and settings.is_joined:
            store.join(settings.out, whole, unreadable, over_time=settings.over_time)
    print(f"{settings.out}: {settings.layer} of {len(whole)} of {amount(len(paths), 'file')}")
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {amount(len(paths), 'file')} could not be read, as said above and noted in "
            f"{settings.folder}"
        )


def embed_missing(store: FeatureStore, model: EvaluatedModel, paths: Sequence[Path]) -> dict[Path, str]:
    """Compute what the store does not have; {path: reason} of what cannot be read."""
    missing = [path for path in paths if store.record(path) is None]
    if len(missing) < len(paths):
        print(f"{len(paths) - len(missing)} of {len(paths)} are there already")
    layer, over_time, sample_rate = store.facts["layer"], store.facts["over_time"], model.network.sample_rate
    unreadable = {}

    def embed(path: Path) -> UnreadableMedia | None:
        rows = steps_of(model, layer, stream_sound(path, sample_rate))
        try:
            store.save(path, rows if over_time else mean_of(rows))
        except UnreadableMedia as error:
            return error
        return None

    done = progress(side_by_side(embed, missing), f"computing {layer}", len(missing))
    for path, error in zip(missing, done, strict=True):
        if error is not None:
            unreadable[path] = str(error)
            log(f"{path} cannot be read ({error})")
    return unreadable
