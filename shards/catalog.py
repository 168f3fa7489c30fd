"""What clips a folder holds and where each one's bytes are, in columns: two million clips take some 200 MB.

Read from manifest and side files alone; no tar is opened. Posteriors of another teacher set are joined here, strictly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from shards.clip import ClipSpec
from shards.codec import WAV_HEADER_BYTES
from shards.manifest import ContractError, Manifest, TeacherCard, require_same
from shards.sidefile import SideFile
from shards.store import Tar, metadata

Places = NDArray[np.int64]  # (clips, 2): offset and bytes of a member's payload in its tar


@dataclass(frozen=True)
class Catalog:
    """The clips of one split, numbered shard by shard, with the posteriors of the teachers to learn from."""

    location: str
    split: str
    clip: ClipSpec
    audio: str  # wav | flac
    teacher_set: str
    cards: dict[str, TeacherCard]  # head -> its teacher, for the heads learned from
    sounds: list[Tar]  # shard by shard
    labels: list[Tar]  # the same tars, or those of the relabelled teacher set
    keys: NDArray[np.str_]  # (clips,) variable-width strings, as are the columns below
    shard: NDArray[np.int32]
    samples: NDArray[np.int32]
    windows: NDArray[np.int32]
    sound_places: Places
    posterior_places: dict[str, Places]  # head -> places in `labels`
    posterior_sums: dict[str, NDArray[np.float64]]  # head -> sum over all windows of all clips, (classes,)

    @property
    def clips(self) -> int:
        return len(self.keys)

    @property
    def shard_clips(self) -> list[int]:
        return [int(count) for count in np.bincount(self.shard, minlength=len(self.sounds))]

    @property
    def classes(self) -> dict[str, int]:
        return {head: len(card.classes) for head, card in self.cards.items()}

    @property
    def mean_posterior(self) -> dict[str, NDArray[np.float64]]:
        """head -> mean over all windows of all clips, (classes,): the baseline that knows the labels but no sound."""
        return {head: total / self.windows.sum() for head, total in self.posterior_sums.items()}

    @property
    def fingerprint(self) -> str:
        """A hash of all tars and heads: a position in the stream means the same only in an equal catalog."""
        facts = [*self.cards, *(tar.sha256 for tar in self.sounds), *(tar.sha256 for tar in self.labels)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def load_catalog(
    location: str, split: str, *, learn_from: Sequence[str] | None = None, teacher_set: str | None = None
) -> Catalog:
    """The catalog of `split` (train, validation) in a shard folder: a path or any fsspec URL.

    `learn_from` names heads, None means all; `teacher_set` is a relabelled set under `teachers/`, None the shards' own.
    Raises ContractError; a split without clips is no error here.
    """
    location = location.rstrip("/")
    own, sides = _load_sides(location, split)
    if teacher_set in (None, own.teacher_set):
        return _assemble(location, split, own, own, sides, sides, location, learn_from)
    relabelled = f"{location}/teachers/{teacher_set}"
    remedy = f"Run `make relabel shards={location} teachers={teacher_set}` to its end."
    try:
        other, label_sides = _load_sides(relabelled, split)
    except ContractError as error:
        raise ContractError(f"teacher set {teacher_set} cannot be read ({error}). {remedy}") from None
    require_same(asdict(own.clip), asdict(other.clip), relabelled, remedy)
    _require_joined(sides, label_sides, location, relabelled, remedy)
    return _assemble(location, split, own, other, sides, label_sides, relabelled, learn_from)


def _load_sides(location: str, split: str) -> tuple[Manifest, list[SideFile]]:
    with metadata(location, split) as (folder, shards):
        manifest = Manifest.load(folder)
        sides = [SideFile.load(folder / f"{shard}.json") for shard in shards]
    return manifest, [side for side in sides if side.keys]


def _require_joined(
    sides: Sequence[SideFile], label_sides: Sequence[SideFile], location: str, relabelled: str, remedy: str
) -> None:
    """Every clip of every shard must be labelled, in the same order, with the same number of windows."""
    labels = {side.shard: side for side in label_sides}
    missing = [side.shard for side in sides if side.shard not in labels]
    if missing:
        raise ContractError(
            f"{relabelled} lacks {len(missing)} of the {len(sides)} shards in {location} (first {missing[0]}). {remedy}"
        )
    extra = sorted(labels.keys() - {side.shard for side in sides})
    if extra:
        raise ContractError(f"{relabelled} labels {extra[0]}, which {location} does not hold. {remedy}")
    for side in sides:
        other = labels[side.shard]
        if (side.keys, side.windows) != (other.keys, other.windows):
            pairs = zip([*side.keys, None], [*other.keys, None], [*side.windows, 0], [*other.windows, 0], strict=False)
            one, two, windows, other_windows = next(pair for pair in pairs if pair[0] != pair[1] or pair[2] != pair[3])
            raise ContractError(
                f"{side.shard}: where {location} has {one} with {windows} windows, {relabelled} has {two} with "
                f"{other_windows}. Delete {relabelled}/{side.shard}.json. {remedy}"
            )


def _assemble(
    location: str,
    split: str,
    own: Manifest,
    labelled: Manifest,
    sides: Sequence[SideFile],
    label_sides: Sequence[SideFile],
    label_location: str,
    learn_from: Sequence[str] | None,
) -> Catalog:
    heads = _chosen(labelled, learn_from)
    catalog = Catalog(
        location=location,
        split=split,
        clip=own.clip,
        audio=own.audio,
        teacher_set=labelled.teacher_set,
        cards={head: labelled.teachers[head] for head in heads},
        sounds=[_tar(location, side) for side in sides],
        labels=[_tar(label_location, side) for side in label_sides],
        keys=np.array([key for side in sides for key in side.keys], np.dtypes.StringDType()),
        shard=np.repeat(np.arange(len(sides), dtype=np.int32), [len(side.keys) for side in sides]),
        samples=_column([side.samples for side in sides]),
        windows=_column([side.windows for side in sides]),
        sound_places=_places(location, sides, own.audio),
        posterior_places={head: _places(label_location, label_sides, f"{head}.npy") for head in heads},
        posterior_sums={
            head: np.sum([side.posterior_sums[head] for side in label_sides], axis=0, dtype=np.float64)
            for head in heads
        },
    )
    _require_plausible(catalog)
    return catalog


def _chosen(manifest: Manifest, learn_from: Sequence[str] | None) -> list[str]:
    heads = sorted(manifest.teachers) if learn_from is None else list(learn_from)
    if not heads or len(set(heads)) < len(heads) or not set(heads) <= manifest.teachers.keys():
        raise ContractError(
            f"learn_from={heads} must name heads of teacher set {manifest.teacher_set}, each once: "
            f"it has {sorted(manifest.teachers)}"
        )
    return heads


def _tar(location: str, side: SideFile) -> Tar:
    return Tar(f"{location}/{side.shard}.tar", side.tar_bytes, side.tar_sha256)


def _column(parts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.concatenate([np.asarray(part, np.int32) for part in parts]) if parts else np.empty(0, np.int32)


def _places(location: str, sides: Sequence[SideFile], extension: str) -> Places:
    parts = [np.empty((0, 2), np.int64)]
    for side in sides:
        places = side.members.get(extension)
        if places is None or None in places:
            key = side.keys[places.index(None) if places else 0]
            raise ContractError(f"{location}/{side.shard}.json lists no {extension} of {key}. Make the shard again.")
        parts.append(np.asarray(places, np.int64))
    return np.concatenate(parts)


def _require_plausible(catalog: Catalog) -> None:
    """A side file that lies about places or lengths is refused before a byte is read or allocated."""
    clip, audio_bytes = catalog.clip, catalog.sound_places[:, 1]
    faults = (
        (catalog.samples < 1)
        | (catalog.samples > clip.samples)
        | (catalog.windows < 1)
        | (catalog.windows > clip.windows)
    )
    faults |= _outside(catalog.sound_places, catalog.sounds, catalog.shard)
    if catalog.audio == "wav":
        faults |= audio_bytes != WAV_HEADER_BYTES + 2 * catalog.samples.astype(np.int64)
    for head, places in catalog.posterior_places.items():
        payload = 2 * catalog.windows.astype(np.int64) * catalog.classes[head]
        faults |= _outside(places, catalog.labels, catalog.shard) | (places[:, 1] <= payload)
    if faults.any():
        clip_index = int(np.argmax(faults))
        shard = catalog.sounds[catalog.shard[clip_index]].shard
        raise ContractError(
            f"{catalog.location}/{shard}.json gives {catalog.keys[clip_index]} a place or a length that cannot be: "
            "it was changed after it was written. Delete it to have the shard made again."
        )


def _outside(places: Places, tars: Sequence[Tar], shard: NDArray[np.int32]) -> NDArray[np.bool_]:
    tar_bytes = np.array([tar.bytes for tar in tars], np.int64)[shard]
    return (places < 0).any(axis=1) | (places[:, 1] > tar_bytes) | (places[:, 0] > tar_bytes - places[:, 1])
