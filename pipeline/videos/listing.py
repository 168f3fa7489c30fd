"""The inputs of stage one: the videos of a folder, or of a list, in path order. Each may be behind any fsspec URL."""

from __future__ import annotations

import hashlib
import math
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import NoReturn

from pipeline.videos.keys import key_of, segment_of, segment_text
from shards.errors import UserError
from shards.files import patiently
from shards.lists import read_lines, read_table
from shards.media.file import MEDIA_SUFFIXES
from shards.storage import address, file_system, is_remote, network_errors, open_place, reaching

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
LIST_SUFFIXES = TABLE_SUFFIXES | {".txt", ".lst"}
MOST_SUFFIXES = 20  # of files that are not taken
PATH_COLUMNS = ("path", "url", "video", "file", "filename")


@dataclass(frozen=True, slots=True)
class Video:
    """One input, by its path relative to the root, or its URL; bytes is -1 for no regular file, or where unknown.

    It is the file from `start` to `end` seconds, counted from where the file begins. `group` and `given` are a list's:
    inputs of one group are in one split, and `given` travels into the json of each clip.
    """

    path: str
    bytes: int
    start: float = 0.0
    end: float = math.inf
    group: str = ""
    given: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return key_of(self.path, self.start, self.end)

    @property
    def source(self) -> str:
        """What decides the split: the group, else the file, so that its segments stay together."""
        return self.group or key_of(self.path)


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
    """Every input once, sorted; with the sizes that the listing of a remote folder gave.

    An input is a text: its path; or, where a list says more of it, that and its segment (see keys.py), its group and
    its fields in `columns`, parted by zero bytes. Two million objects would take several times as much.
    """

    root: str  # the folder, path or URL, that relative paths start from
    inputs: list[str]
    columns: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict, repr=False)
    not_taken: dict[str, int] = field(default_factory=dict, repr=False)  # of a folder, see NotTaken

    def video(self, text: str) -> Video:
        """A file is asked for its size. A URL of a list is not: two million requests would take days."""
        path = text.partition("\0")[0]
        place = address(self.root, path)
        return self.video_of(text, self.sizes.get(path, -1) if is_remote(place) else _size(place))

    def video_of(self, text: str, size: int) -> Video:
        """An input of which the size is known."""
        path, *said = text.split("\0")
        if not said:
            return Video(path, size)
        segment, group, *fields = said
        return Video(path, size, *segment_of(segment), group, dict(zip(self.columns, fields, strict=True)))

    @property
    def paths(self) -> Iterator[str]:
        return (text.partition("\0")[0] for text in self.inputs)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for text in self.inputs:
            digest.update(text.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


def identity(text: str) -> tuple[str, str]:
    """(path, segment) of an input's text: what it is one by, whatever else a list says of it."""
    path, _, said = text.partition("\0")
    return path, said.partition("\0")[0]


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
    root, sizes, columns, not_taken = root_of(videos), dict[str, int](), tuple[str, ...](), NotTaken()
    if root != videos:
        columns, inputs = _listed(videos)
    elif is_remote(root):
        with reaching(f"videos={videos}"):
            sizes = dict(_walk_remote(root, not_taken))
        inputs = list(sizes)
    else:
        inputs = list(_walk(Path(root), not_taken))
    if not inputs:
        others = f", and found {counted(not_taken.counts())}" if not_taken else ""
        looked = "the list is empty" if root != videos else f"looked for {' '.join(MEDIA_SUFFIXES)}{others}"
        raise UserError(f"videos={videos} holds no video ({looked})")
    inputs.sort()
    inputs = [text for text, _ in groupby(inputs)]
    for one, other in pairwise(inputs):
        if identity(one) == identity(other):
            both = " and ".join(ascii(text.split("\0")[1:]) for text in (one, other))
            raise UserError(f"videos={videos}: two rows of {one.partition(chr(0))[0]!r} differ, {both}: keep one")
    return Listing(root, inputs, columns, sizes, not_taken.counts())


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
    what = "is neither a folder nor a .csv, .tsv or .txt list of videos" if there else "does not exist"
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
    waiting = [top]
    while waiting:  # fsspec's own walk passes over folders that cannot be listed
        folder = waiting.pop()
        for entry in patiently(partial(system.ls, folder, detail=True), network_errors()):
            place, size = entry["name"].rstrip("/"), entry.get("size")
            name = posixpath.basename(place)
            if place == folder.rstrip("/"):  # a store's mark that the folder is there
                continue
            if entry["type"] != "directory":
                if not_taken.is_media(name):
                    yield posixpath.relpath(place, top or "."), -1 if size is None else int(size)
            elif name.startswith("."):
                not_taken[not_taken.HIDDEN] += 1
            else:
                waiting.append(place)


def _listed(videos: str) -> tuple[tuple[str, ...], list[str]]:
    """(other columns, inputs) of a list: a path a line, or a table with a column of PATH_COLUMNS.

    A URL stays what it is; a path becomes relative to the list's folder. Raises UserError.
    """
    relative = posixpath.normpath if is_remote(videos) else _relative_to(os.path.dirname(videos))
    columns, inputs = tuple[str, ...](), list[str]()
    with reaching(f"videos={videos}"), open_place(videos) as raw:
        if posixpath.splitext(videos.partition("::")[0])[1].lower() not in TABLE_SUFFIXES:
            return (), [line if is_remote(line) else relative(line) for _, line in read_lines(raw, videos)]
        for number, row in read_table(raw, videos, PATH_COLUMNS):
            where = f"{videos}, row {number}"
            path = row.pop(next(column for column in PATH_COLUMNS if column in row))
            if not path.strip():
                raise UserError(f"{where}: it has no path, only {', '.join(map(ascii, row.values()))}")
            start, end = _segment(row.pop("start", ""), row.pop("end", ""), where)
            said = [segment_text(start, end), row.pop("group", "").strip(), *row.values()]
            _require_text([*said, *row], where)
            columns = tuple(row)
            path = path if is_remote(path) else relative(path)
            inputs.append("\0".join([path, *said]) if columns or any(said) else path)
    return columns, inputs


def _segment(start: str, end: str, where: str) -> tuple[float, float]:
    """(start, end) in seconds, of a list's fields; empty ones mean the file's own."""
    try:
        begin, until = float(start.strip() or 0), float(end.strip() or math.inf)
    except ValueError:
        begin, until = math.nan, math.nan
    if not (0 <= begin < until and math.isfinite(begin)) or (end.strip() and math.isinf(until)):
        raise UserError(
            f"{where}: start={start!r} and end={end!r} must be seconds such as 10 and 12.5, start before end"
        )
    return abs(begin), until  # without the sign of -0


def _require_text(fields: list[str], where: str) -> None:
    for text in fields:
        if not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text):
            raise UserError(f"{where}: {text!a} is not UTF-8: save the list as UTF-8 text")


def _relative_to(folder: str) -> Callable[[str], str]:
    return lambda line: os.path.relpath(os.path.join(folder, line), folder or ".")


def _size(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
