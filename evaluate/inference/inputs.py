"""The sounds a user names: files, folders, lists; read piece by piece, with progress and errors on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from shards.errors import UserError
from shards.lists import read_lines
from shards.media.file import RECORDING_SUFFIXES
from shards.media.waveform import stream_waveform

Result = TypeVar("Result")

LIST_SUFFIX = ".txt"  # a path on each line, from the list's own folder


def find_sounds(given: Sequence[Path]) -> list[Path]:
    """Each once, in the order given; of a folder, all sounds and videos in it and below it, sorted by path.

    A file is taken whatever it is called. Raises UserError for what is not there, and where nothing is found.
    """
    places: dict[str, Path] = {}
    for path in (path for each in given for path in _sounds_of(each)):
        places.setdefault(os.path.abspath(path), path)
    found = list(places.values())
    if not found:
        raise UserError(f"no sound or video in {', '.join(map(str, given))}: give files, a folder or a .txt list")
    return found


def _sounds_of(given: Path) -> Iterator[Path]:
    if given.is_dir():
        yield from (
            path for path in sorted(_below(given)) if path.suffix.lower() in RECORDING_SUFFIXES and path.is_file()
        )
    elif given.suffix.lower() == LIST_SUFFIX and given.is_file():
        with open(given, "rb") as stream:
            yield from (given.parent / line for _, line in read_lines(stream, str(given)))
    elif given.exists():
        yield given
    else:
        raise UserError(f"there is no file or folder {given}")


def _below(folder: Path) -> Iterator[Path]:
    """Files of a folder and those below it, hidden ones left out."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        else:
            yield path


def stream_sound(path: Path, sample_rate: int) -> Iterator[NDArray[np.int16]]:
    """A file's sound in pieces of int16 (samples,); what was mended in it is said. Raises UnreadableMedia."""
    yield from stream_waveform(path, sample_rate, lambda line: log(f"{path}: {line}"))


def progress(results: Iterable[Result], title: str, total: int) -> Iterator[Result]:
    """The same results, with a bar on stderr that is gone at the end; none where stderr is no terminal."""
    console = Console(stderr=True)
    yield from track(results, title, total, console=console, transient=True, disable=not console.is_terminal)


def log(line: str) -> None:
    """A line on stderr; letters that are no text, as in a file's name, become question marks."""
    sys.stderr.write(f"{line.encode(errors='replace').decode()}\n")  # in one piece: other threads have lines too
    sys.stderr.flush()
