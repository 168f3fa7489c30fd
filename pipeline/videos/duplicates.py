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
    """Sizes of new files that another one has as well, new or known; of what is no regular file (-1) there is none.

    `new` has each file once, however many segments of it there are.
    """
    sizes, counts = np.unique(new, return_counts=True)
    both = np.intersect1d(sizes, np.fromiter(known, np.int64), assume_unique=False)
    return {int(size) for size in (*sizes[counts > 1], *both) if size >= 0}


def find_duplicates(
    new: Iterable[Video], known: Iterable[Video], root: str, hashes: Mapping[str, str]
) -> dict[str, str]:
    """{key of a new video: key of the video that it repeats}. Those whose size is not known (-1) repeat none.

    Two segments of one content repeat each other where they begin and end alike. Known videos, which a plan already
    holds, win over new ones; among the rest the first in the order given wins. `hashes` are the full hashes of known
    videos by key, as finished shards keep them: their files may be gone.
    """
    known, new = list(known), list(new)
    new_keys = {video.key for video in new}
    repeats: dict[str, str] = {}
    by_size: defaultdict[int, list[Video]] = defaultdict(list)
    for video in (*known, *new):
        if video.bytes >= 0:
            by_size[video.bytes].append(video)
    for group in by_size.values():
        keys = {video.key: video for video in group}
        if len({video.path for video in group}) == 1 or new_keys.isdisjoint(keys):
            continue
        digests = _digests(group, root, hashes)
        first: dict[tuple[str, float, float], str] = {}
        for key, video in keys.items():
            digest = digests[video.path]
            if digest is None:
                continue
            content = (digest, video.start, video.end)
            if content in first and key in new_keys:
                repeats[key] = first[content]
            first.setdefault(content, key)
    return repeats


def _digests(group: Iterable[Video], root: str, hashes: Mapping[str, str]) -> dict[str, str | None]:
    """{path: full hash} of files of one size; None for what differs from all others at its beginning already."""
    finished = {video.path: hashes[video.key] for video in group if video.key in hashes}
    # A finished video is compared by its recorded hash, so it goes along with every head.
    paths = dict.fromkeys(video.path for video in group)
    heads = {path: None if path in finished else _try(_head_of, root, path) for path in paths}
    seen = Counter(heads.values())
    candidates = [path for path, head in heads.items() if head is None or seen[head] + seen[None] > 1]
    found = {path: finished.get(path) or _try(sha256_of, root, path) for path in candidates}
    return {path: found.get(path) for path in paths}


def _head_of(stream: IO[bytes]) -> str:
    return hashlib.sha256(stream.read(HEAD_BYTES)).hexdigest()


def _try(digest: Callable[[IO[bytes]], str], root: str, path: str) -> str | None:
    """None for a file that cannot be read: the decoder will reject it with the reason."""
    try:
        with open_place(address(root, path)) as stream:
            return digest(stream)
    except network_errors():
        return None
