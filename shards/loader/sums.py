"""The sums of posteriors over the clips that are kept. A side file has those over all clips of its shard alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from shards.format.codec import DamagedExample, checksum, decode_array
from shards.format.shard import REMEDY_OR_SKIP, DamagedShard, read_places
from shards.loader.index import ShardIndex

Sums = dict[str, NDArray[np.float64]]  # head -> (classes,)


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
