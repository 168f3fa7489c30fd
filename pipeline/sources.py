"""The inputs of stage one: the videos of a folder, or of a list, in path order."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.keys import key_of
from shards.manifest import ContractError

MEDIA_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
)
LIST_SUFFIXES = frozenset({".csv", ".txt", ".lst"})
PATH_COLUMNS = ("path", "video", "file", "filename")


@dataclass(frozen=True, slots=True)
class Video:
    """One input, known by its path relative to the root; bytes is -1 where it is no regular file."""

    path: str
    bytes: int

    @property
    def key(self) -> str:
        return key_of(self.path)


def root_of(videos: Path) -> Path:
    """The folder that relative paths start from: the folder itself, or that of the list. Raises ContractError."""
    if videos.is_dir():
        return videos
    if videos.is_file() and videos.suffix.lower() in LIST_SUFFIXES:
        return videos.parent
    what = "does not exist" if not videos.exists() else "is neither a folder nor a .csv or .txt list of videos"
    raise ContractError(f"videos={videos} {what}")


def find_videos(videos: Path) -> list[Video]:
    """Every input once, sorted by path: each line of a list, each file with a media suffix of a folder."""
    root = root_of(videos)
    paths = _walk(root) if videos.is_dir() else _listed(videos)
    found = [Video(path, _size(root / path)) for path in sorted(set(paths))]
    if not found:
        raise ContractError(f"videos={videos} holds no video (looked for {' '.join(MEDIA_SUFFIXES)})")
    return found


def _walk(root: Path) -> Iterator[str]:
    """Relative paths of media files; hidden names skipped, a folder reached twice through links visited once."""
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES:
                yield os.path.relpath(os.path.join(folder, name), root)


def _listed(path: Path) -> list[str]:
    """Paths of a list, relative to its folder: a line each, or a CSV's column named path, video, file or filename."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as stream:
        if path.suffix.lower() != ".csv":
            lines = [line.rstrip("\r\n") for line in stream]
        else:
            rows = csv.DictReader(stream)
            column = next((name for name in PATH_COLUMNS if name in (rows.fieldnames or ())), None)
            if column is None:
                raise ContractError(f"{path} has no column {' or '.join(PATH_COLUMNS)}, only {rows.fieldnames}")
            lines = [row[column] or "" for row in rows]
    return [os.path.relpath(path.parent / line, path.parent) for line in lines if line.strip()]


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
