"""The catalog: what clips a folder holds and where each one's bytes are, in columns, read without opening a tar.

Two million clips take some 270 MB, and twice that while loading. The labels of another teacher set are joined here:
they must be there for every clip of every shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from shards.errors import ContractError, UserError, require_same
from shards.format.clip import ClipSpec
from shards.format.manifest import Manifest, TeacherCard
from shards.format.members import DamagedExample, checksum, decode_array
from shards.format.shard import REMEDY_OR_SKIP, DamagedShard, read_places
from shards.loader.index import EVERY_CLIP, Checksums, Counts, Keys, Places, ShardIndex, load_index, metadata
from shards.loader.keep import Keep
from shards.loader.tars.store import Tar

Sums = dict[str, NDArray[np.float64]]  # head -> (classes,)


@dataclass(frozen=True)
class Catalog:
    """The clips of one split, numbered shard by shard, with the posteriors of the teachers to learn from.

    Clips that are not to be kept are not in it; `left_out` says how many.
    """

    location: str
    split: str
    clip: ClipSpec
    audio: str  # wav | flac
    teacher_set: str
    cards: dict[str, TeacherCard]  # head -> its teacher, for the heads learned from
    sounds: list[Tar]  # shard by shard
    labels: list[Tar]  # the same tars, or those of the relabelled teacher set
    shard: NDArray[np.int32]  # (clips,), as are the columns below
    keys: Keys
    samples: Counts
    windows: Counts
    sound_places: Places
    posterior_places: dict[str, Places]  # head -> places in `labels`
    sound_checksums: Checksums
    posterior_checksums: dict[str, Checksums]
    posterior_sums: dict[str, NDArray[np.float64]]  # head -> sum over all windows of all clips, (classes,)
    summed_windows: int  # how many these are: all, but for those of clips that are damaged and skipped
    left_out: int = 0

    @property
    def clips(self) -> int:
        return len(self.shard)

    @property
    def shard_clips(self) -> list[int]:
        return [int(count) for count in np.bincount(self.shard, minlength=len(self.sounds))]

    @property
    def classes(self) -> dict[str, int]:
        return {head: len(card.classes) for head, card in self.cards.items()}

    @property
    def mean_clip_bytes(self) -> float:
        """Of sound and posteriors, as they lie in the tars."""
        places = [self.sound_places, *self.posterior_places.values()]
        return float(sum(place[:, 1].mean() for place in places)) if self.clips else 0.0

    @property
    def mean_posterior(self) -> dict[str, NDArray[np.float64]]:
        """head -> mean over all windows of all clips, (classes,): the baseline that knows the labels but no sound."""
        return {head: total / max(self.summed_windows, 1) for head, total in self.posterior_sums.items()}

    def part(self, clips: NDArray[np.int64]) -> Catalog:
        """These clips alone, given in order; the sums stay those of all."""
        columns = ("shard", "keys", "samples", "windows", "sound_places", "sound_checksums")
        return replace(
            self,
            **{name: getattr(self, name)[clips] for name in columns},
            posterior_places={head: places[clips] for head, places in self.posterior_places.items()},
            posterior_checksums={head: sums[clips] for head, sums in self.posterior_checksums.items()},
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all tars, heads and kept clips: a position means the same only in an equal catalog."""
        facts = [*self.cards, *(tar.sha256 for tar in self.sounds), *(tar.sha256 for tar in self.labels)]
        if self.left_out:
            facts += map(str, self.keys)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def load_catalog(
    location: str,
    split: str,
    *,
    learn_from: Sequence[str] | None = None,
    teacher_set: str | None = None,
    keep: Keep = EVERY_CLIP,
    skipping: bool = False,
) -> Catalog:
    """The catalog of `split` (train, validation) in a shard folder: a path or any fsspec URL.

    `learn_from` names heads, None means all; `teacher_set` is a relabelled set under `teachers/`, None the shards' own.
    `keep` chooses clips; then posteriors are read, for their sums, and damaged ones passed over with `skipping`.
    Raises UserError; a split without clips is no error here.
    """
    location = location.rstrip("/")
    own, shards = _load(location, split, sound=True, keep=keep)
    labelled, labels = own, shards
    if teacher_set not in (None, own.teacher_set):
        remedy = f"Run `make relabel videos=... shards={location} teachers={teacher_set}` to its end."
        try:
            labelled, labels = _load(f"{location}/teachers/{teacher_set}", split, sound=False)
        except UserError as error:
            raise UserError(f"{error} {remedy}") from None
        require_same(asdict(own.clip), asdict(labelled.clip), f"teachers/{teacher_set}", remedy)
        _require_joined(shards, labels, f"teachers/{teacher_set}", remedy)
    heads = _chosen(labelled, learn_from)
    # The shards with the sound say what is kept, of another teacher set's labels too.
    both = [(sound, replace(label, kept=sound.kept)) for sound, label in zip(shards, labels, strict=True)]
    both = [(sound, label) for sound, label in both if sound.kept.any()]
    sums = [kept_sums(label, heads, skipping=skipping) for _, label in both]
    kept, kept_labels = [sound.of(sound.kept) for sound, _ in both], [label.of(label.kept) for _, label in both]
    catalog = _assemble(location, split, own, labelled, heads, kept, kept_labels, sums)
    return replace(catalog, left_out=sum(len(index.keys) for index in shards) - catalog.clips)


def _load(location: str, split: str, *, sound: bool, keep: Keep = EVERY_CLIP) -> tuple[Manifest, list[ShardIndex]]:
    """The manifest of a folder, and its shards that hold clips."""
    with metadata(location, split) as (folder, names):
        manifest = Manifest.load(folder)
        shards = [load_index(folder / f"{name}.json", location, manifest, sound=sound, keep=keep) for name in names]
    return manifest, [index for index in shards if len(index.keys)]


def _chosen(manifest: Manifest, learn_from: Sequence[str] | None) -> list[str]:
    heads = sorted(manifest.teachers if learn_from is None else learn_from)
    if not heads or len(set(heads)) < len(heads) or not set(heads) <= manifest.teachers.keys():
        raise UserError(
            f"learn_from={heads} must name heads of teacher set {manifest.teacher_set}, each once: "
            f"it has {sorted(manifest.teachers)}"
        )
    return heads


def _require_joined(shards: Sequence[ShardIndex], labels: Sequence[ShardIndex], where: str, remedy: str) -> None:
    """Every clip of every shard must be labelled, in the same order, with the same number of windows."""
    wanted, found = [{index.tar.shard: index for index in side} for side in (shards, labels)]
    differing = sorted(wanted.keys() ^ found.keys())
    if differing:
        lacking, holding = (where, "the shards") if differing[0] in wanted else ("the shards", where)
        raise ContractError(f"{lacking} lack {differing[0]}, which {holding} hold ({len(differing)} such). {remedy}")
    for shard, index in wanted.items():
        other = found[shard]
        if not (np.array_equal(index.keys, other.keys) and np.array_equal(index.windows, other.windows)):
            pairs = zip_longest(_described(index), _described(other), fillvalue="nothing")
            clip, sides = next((clip, pair) for clip, pair in enumerate(pairs) if pair[0] != pair[1])
            raise ContractError(
                f"{shard}, clip {clip}: the shards have {sides[0]}, {where} has {sides[1]}. "
                f"Delete {shard}.tar and .json in {where}. {remedy}"
            )


def _described(index: ShardIndex) -> list[str]:
    return [f"{key} with {windows} windows" for key, windows in zip(index.keys, index.windows, strict=True)]


def _assemble(
    location: str,
    split: str,
    own: Manifest,
    labelled: Manifest,
    heads: list[str],
    shards: list[ShardIndex],
    labels: list[ShardIndex],
    sums: list[tuple[Sums, int]],
) -> Catalog:
    return Catalog(
        location=location,
        split=split,
        clip=own.clip,
        audio=own.audio,
        teacher_set=labelled.teacher_set,
        cards={head: labelled.teachers[head] for head in heads},
        sounds=[index.tar for index in shards],
        labels=[index.tar for index in labels],
        shard=np.repeat(np.arange(len(shards), dtype=np.int32), [len(index.keys) for index in shards]),
        keys=np.concatenate([np.array([], np.dtypes.StringDType()), *(index.keys for index in shards)]),
        samples=np.concatenate([np.empty(0, np.int64), *(index.samples for index in shards)]),
        windows=np.concatenate([np.empty(0, np.int64), *(index.windows for index in shards)]),
        sound_places=_joined(index.sounds for index in shards),
        posterior_places={head: _joined(index.posteriors[head] for index in labels) for head in heads},
        sound_checksums=_joined_checksums(index.sound_checksums for index in shards),
        posterior_checksums={
            head: _joined_checksums(index.posterior_checksums[head] for index in labels) for head in heads
        },
        posterior_sums={
            head: sum((of_shard[head] for of_shard, _ in sums), np.zeros(len(labelled.teachers[head].classes)))
            for head in heads
        },
        summed_windows=sum(windows for _, windows in sums),
    )


def _joined_checksums(checksums: Iterable[Checksums]) -> Checksums:
    return np.concatenate([np.empty(0, np.uint32), *checksums])


def _joined(places: Iterable[Places]) -> Places:
    return np.concatenate([np.empty((0, 2), np.int64), *places])


def kept_sums(labels: ShardIndex, heads: Sequence[str], *, skipping: bool) -> tuple[Sums, int]:
    """head -> sum over all windows of the shard's kept clips, and how many windows these are.

    Where clips are left out, posteriors are read: those of the kept clips or of the others, whichever are fewer. Raises
    DamagedShard where one is not as it was written; with `skipping` it is not counted.
    """
    kept, totals = labels.kept, {head: labels.posterior_sums[head] for head in heads}
    if kept.all():
        return totals, int(labels.windows.sum())
    # A float16 is a whole multiple of 2^-24, so float64 sums of them are exact, and so is the difference of two.
    by_difference = not skipping and 2 * kept.sum() > len(kept)
    sums, windows = {head: np.zeros_like(total) for head, total in totals.items()}, 0
    for rows in _posteriors(labels.of(~kept if by_difference else kept), heads, skipping):
        windows += len(rows[0])
        for head, posterior in zip(heads, rows, strict=True):
            sums[head] += posterior.astype(np.float64).sum(axis=0)
    if by_difference:
        return {head: totals[head] - sums[head] for head in heads}, int(labels.windows.sum()) - windows
    return sums, windows


def _posteriors(index: ShardIndex, heads: Sequence[str], skipping: bool) -> Iterator[list[NDArray[np.float16]]]:
    """Each clip's posteriors (windows, classes), head by head."""
    location = index.tar.location
    try:
        payloads = [
            read_places(location, [tuple(place) for place in index.posteriors[head].tolist()]) for head in heads
        ]
    except OSError as error:
        if skipping:
            return
        raise DamagedShard(f"{location} cannot be read: {error.strerror}. {REMEDY_OR_SKIP}") from None
    for clip, members in enumerate(zip(*payloads, strict=True)):
        try:
            yield [_posterior(index, clip, head, data) for head, data in zip(heads, members, strict=True)]
        except DamagedExample as error:
            if not skipping:
                raise DamagedShard(f"{location}: {error}. {REMEDY_OR_SKIP}") from None


def _posterior(index: ShardIndex, clip: int, head: str, data: bytes) -> NDArray[np.float16]:
    try:
        posterior = decode_array(data)
        wanted = (int(index.windows[clip]), len(index.posterior_sums[head]))
        if posterior.shape != wanted or checksum(posterior) != index.posterior_checksums[head][clip]:
            raise ValueError(f"it is not the posterior {wanted} that its side file has the checksum of")
    except ValueError as error:
        raise DamagedExample(f"{index.keys[clip]}.{head}.npy: {error}") from None
    return posterior
