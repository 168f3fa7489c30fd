"""`make embed`: one layer's features of each sound, over time or their mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.inference.embed.store import FeatureStore
from evaluate.inference.features import features_of
from evaluate.inference.inputs import find_sounds, log, progress, stream_sound
from evaluate.inference.posteriors import posteriors_of
from evaluate.model import EvaluatedModel, device_of
from shards.cli.words import amount
from shards.errors import UserError
from shards.media.file import UnreadableMedia
from shards.media.waveform import RESAMPLER
from train.device.device import require_device
from train.device.threads import side_by_side
from train.model.student import Student, scaled

Rows = tuple[NDArray[np.float64], NDArray[np.float32]]  # seconds (rows,), features (rows, channels)


@dataclass
class EmbedSettings:
    """conf/embed.yaml. Sample rate and layers come with the checkpoint."""

    # a sound or video, a folder of them, or a .txt list of them
    files: list[Path] = field(metadata={"example": "/my/sounds"})
    # a checkpoint of `make train`, `make finetune` or `make published`
    checkpoint: Path = field(metadata={"example": "data/published/soundnet8.pt"})
    # an .npz file, with a folder .npz.parts beside it; or a folder, with three files for each sound
    out: Path = Path("outputs/features.npz")
    layer: str = "pool5"  # the layer; the output layer gives log posteriors
    over_time: bool = False  # true: every step with its time; false: the mean over each sound
    device: str = "cpu"  # cpu or cuda

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
    require_device(settings.device)
    model = EvaluatedModel.load(settings.checkpoint, settings.device)
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
    layer, over_time = store.facts["layer"], store.facts["over_time"]
    unreadable = {}

    def embed(path: Path) -> UnreadableMedia | None:
        rows = steps_of(model, layer, path)
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


def steps_of(model: EvaluatedModel, layer: str, path: Path) -> Iterator[Rows]:
    """The layer's steps with the times of their centres. Raises UnreadableMedia.

    The output layer gives log posteriors, clip by clip, as `make tag` has them.
    """
    network, sample_rate = model.network, model.checkpoint.clip.sample_rate
    pieces = stream_sound(path, sample_rate)
    if isinstance(network, Student) and layer == network.spec.output.name:
        sound = posteriors_of(model, pieces)
        yield (sound.begins + sound.ends) / 2, np.log(np.hstack(list(sound.posteriors.values())))
        return
    waveforms = (scaled(torch.from_numpy(piece)[None].to(device_of(network))) for piece in pieces)
    done = 0
    for part in features_of(network, layer, waveforms):
        rows = part[0].T.float().cpu().numpy()  # (steps, channels)
        centres = network.spec.centre(done, layer) + np.arange(len(rows)) * network.spec.stride(layer)
        yield centres / sample_rate, rows
        done += len(rows)


def mean_of(steps: Iterable[Rows]) -> Iterator[Rows]:
    """One row: the mean over all steps, at their mean time. The sum is in float64, so that any length will do."""
    total, count, middle = np.zeros(1), 0, 0.0
    for times, rows in steps:
        total = total + rows.sum(axis=0, dtype=np.float64)
        middle += float(times.sum())
        count += len(rows)
    yield np.array([middle / count]), (total / count).astype(np.float32)[None]
