"""The inputs of stage one: the videos of a folder, or of a list, in path order. Each may be behind any fsspec URL."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from pipeline.videos.keys import key_of
from shards.errors import UserError
from shards.media.file import MEDIA_SUFFIXES
from shards.storage import address, file_system, is_remote, open_place, reaching

LIST_SUFFIXES = frozenset({".csv", ".txt", ".lst"})
MOST_SUFFIXES = 20  # of files that are not taken
PATH_COLUMNS = ("path", "url", "video", "file", "filename")


@dataclass(frozen=True, slots=True)
class Video:
    """One input, by its path relative to the root, or its URL; bytes is -1 for no regular file, or where unknown."""

    path: str
    bytes: int

    @property
    def key(self) -> str:
        return key_of(self.path)


class NotTaken(Counter[str]):
    """What a folder holds beside its inputs: files by suffix, hidden names, and folders that cannot be read."""

    HIDDEN, CLOSED, OTHER = "hidden", "unreadable folders", "other"  # a suffix begins with a dot, or is empty

    def is_media(self, name: str) -> bool:
        """Whether it is called like media; else it is counted."""
        suffix = self.HIDDEN if name.startswith(".") else posixpath.splitext(name)[1].lower()
        if suffix not in MEDIA_SUFFIXES:
            self[suffix] += 1
        return suffix in MEDIA_SUFFIXES

    def counts(self) -> dict[str, int]:
        """The most frequent ones first; numbered files (`x.000001`) have a suffix each, and count as others."""
        ordered = sorted((+self).items(), key=lambda item: (-item[1], item[0]))
        others = sum(count for _, count in ordered[MOST_SUFFIXES:])
        return dict(ordered[:MOST_SUFFIXES]) | ({self.OTHER: others} if others else {})


def counted(not_taken: Mapping[str, int]) -> str:
    """In words: 12 .jpg, 3 .part, 2 without suffix, 1 hidden."""
    text = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in not_taken.items())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


@dataclass(frozen=True)
class Listing:
    """Every input once, by path, sorted; with the sizes that the listing of a remote folder gave."""

    root: str  # the folder, path or URL, that relative paths start from
    paths: list[str]
    sizes: dict[str, int] = field(default_factory=dict, repr=False)
    not_taken: dict[str, int] = field(default_factory=dict, repr=False)  # of a folder, see NotTaken

    def video(self, path: str) -> Video:
        """A file is asked for its size. A URL of a list is not: two million requests would take days."""
        place = address(self.root, path)
        return Video(path, self.sizes.get(path, -1) if is_remote(place) else _size(place))

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(path.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


def root_of(videos: str) -> str:
    """The folder that relative paths start from: the folder itself, or that of the list. Raises UserError."""
    if is_remote(videos):
        return _remote_root(videos)
    place = os.path.expanduser(videos)
    if os.path.isdir(place):
        return place
    if os.path.isfile(place) and os.path.splitext(place)[1].lower() in LIST_SUFFIXES:
        return os.path.dirname(place)
    _refuse(videos, there=os.path.exists(place))


def find_videos(videos: str) -> Listing:
    """Every input: each line of a list, each file with a media suffix of a folder. Raises UserError."""
    videos = videos if is_remote(videos) else os.path.expanduser(videos)
    root, sizes, not_taken = root_of(videos), dict[str, int](), NotTaken()
    if root != videos:
        paths = _listed(videos)
    elif is_remote(root):
        with reaching(f"videos={videos}"):
            sizes = dict(_walk_remote(root, not_taken))
        paths = list(sizes)
    else:
        paths = list(_walk(Path(root), not_taken))
    if not paths:
        others = f", and found {counted(not_taken.counts())}" if not_taken else ""
        raise UserError(f"videos={videos} holds no video (looked for {' '.join(MEDIA_SUFFIXES)}{others})")
    return Listing(root, [path for path, _ in groupby(sorted(paths))], sizes, not_taken.counts())


def require_protocols(listing: Listing) -> None:
    """Raise UserError where rows have URLs that nothing here can open, before each of them becomes a reject."""
    examples = {path.partition("://")[0]: path for path in listing.paths if is_remote(path)}
    for example in examples.values():
        file_system(example)


def _remote_root(videos: str) -> str:
    system, name = file_system(videos)
    with reaching(f"videos={videos}"):
        if system.isdir(name):
            return videos
        there = system.exists(name)
    first, chain, rest = videos.partition("::")
    if there and posixpath.splitext(first)[1].lower() in LIST_SUFFIXES:
        return f"{first.rpartition('/')[0]}/{chain}{rest}"
    _refuse(videos, there=there)


def _refuse(videos: str, *, there: bool) -> NoReturn:
    what = "is neither a folder nor a .csv or .txt list of videos" if there else "does not exist"
    raise UserError(f"videos={videos} {what}")


def _walk(root: Path, not_taken: NotTaken) -> Iterator[str]:
    """Relative paths of media files; hidden names skipped, a folder reached twice through links visited once."""
    visited: set[tuple[int, int]] = set()

    def cannot_read(_: OSError) -> None:
        not_taken[not_taken.CLOSED] += 1

    for folder, folders, files in os.walk(root, followlinks=True, onerror=cannot_read):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        not_taken[not_taken.HIDDEN] += sum(name.startswith(".") for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in filter(not_taken.is_media, files):
            yield os.path.relpath(os.path.join(folder, name), root)


def _walk_remote(root: str, not_taken: NotTaken) -> Iterator[tuple[str, int]]:
    """(path relative to the folder, bytes) of media files behind a URL; hidden names skipped."""
    system, top = file_system(root)
    for folder, folders, files in system.walk(top, detail=True):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]  # which keeps the walk out of it
            not_taken[not_taken.HIDDEN] += 1
        for name in filter(not_taken.is_media, files):
            size = files[name].get("size")
            yield posixpath.relpath(posixpath.join(folder, name), top or "."), -1 if size is None else int(size)


def _listed(videos: str) -> list[str]:
    """Rows of a list: a line each, or a CSV's column named path, url, video, file or filename.

    A URL stays what it is; a path becomes relative to the list's folder.
    """
    with reaching(f"videos={videos}"), open_place(videos) as raw:
        stream = io.TextIOWrapper(raw, newline="", encoding="utf-8", errors="surrogateescape")
        if not videos.partition("::")[0].lower().endswith(".csv"):
            lines = [line.rstrip("\r\n") for line in stream]
        else:
            rows = csv.DictReader(stream)
            column = next((name for name in PATH_COLUMNS if name in (rows.fieldnames or ())), None)
            if column is None:
                raise UserError(f"{videos} has no column {' or '.join(PATH_COLUMNS)}, only {rows.fieldnames}")
            lines = [row[column] or "" for row in rows]
    relative = posixpath.normpath if is_remote(videos) else _relative_to(os.path.dirname(videos))
    return [line if is_remote(line) else relative(line) for line in lines if line.strip()]


def _relative_to(folder: str) -> Callable[[str], str]:
    return lambda line: os.path.relpath(os.path.join(folder, line), folder or ".")


def _size(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
