"""Find files with the same content: same size, then same first 64 KiB, then same full hash."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import IO

import numpy as np

from pipeline.videos.listing import Video
from shards.files import sha256_of
from shards.storage import address, network_errors, open_place

HEAD_BYTES = 64 * 1024


def shared_sizes(new: array[int], known: Iterable[int]) -> set[int]:
    """Sizes of new files that another one has as well, new or known; of what is no regular file (-1) there is none."""
    sizes, counts = np.unique(new, return_counts=True)
    both = np.intersect1d(sizes, np.fromiter(known, np.int64), assume_unique=False)
    return {int(size) for size in (*sizes[counts > 1], *both) if size >= 0}


def find_duplicates(
    new: Iterable[Video], known: Iterable[Video], root: str, hashes: Mapping[str, str]
) -> dict[str, str]:
    """{path of a new video: key of the video that it repeats}. Those whose size is not known (-1) repeat none.

    Known videos, which a plan already holds, win over new ones; among the rest the first in the order given wins.
    `hashes` are the full hashes of known videos by key, as finished shards keep them: their files may be gone.
    """
    known, new = list(known), list(new)
    new_paths = {video.path for video in new}
    sizes = Counter(video.bytes for video in known) + Counter(video.bytes for video in new)
    repeats: dict[str, str] = {}
    by_size: defaultdict[int, list[Video]] = defaultdict(list)
    for video in (*known, *new):
        if video.bytes >= 0 and sizes[video.bytes] > 1:
            by_size[video.bytes].append(video)
    for group in by_size.values():
        if not any(video.path in new_paths for video in group):
            continue
        # A finished video is compared by its recorded hash, so it goes along with every head.
        heads = {video.path: None if video.key in hashes else _try(_head_of, root, video) for video in group}
        seen = Counter(heads.values())
        candidates = [video for video in group if heads[video.path] is None or seen[heads[video.path]] + seen[None] > 1]
        first: dict[str, str] = {}
        for video in candidates:
            digest = hashes.get(video.key) or _try(sha256_of, root, video)
            if digest is None:
                continue
            if digest in first and video.path in new_paths:
                repeats[video.path] = first[digest]
            first.setdefault(digest, video.key)
    return repeats


def _head_of(stream: IO[bytes]) -> str:
    return hashlib.sha256(stream.read(HEAD_BYTES)).hexdigest()


def _try(digest: Callable[[IO[bytes]], str], root: str, video: Video) -> str | None:
    """None for a file that cannot be read: the decoder will reject it with the reason."""
    try:
        with open_place(address(root, video.path)) as stream:
            return digest(stream)
    except network_errors():
        return None
