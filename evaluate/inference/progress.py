"""A bar on the terminal while files are worked through, and lines above it. Both go to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track


def progress(paths: Sequence[Path], title: str) -> Iterator[Path]:
    """The same paths; the bar is gone at the end, and there is none where nobody looks."""
    console = Console(stderr=True)
    yield from track(paths, title, console=console, transient=True, disable=not console.is_terminal)


def say(line: str) -> None:
    """A line; letters that are no text, as in a file's name, become question marks."""
    print(line.encode(errors="replace").decode(), file=sys.stderr, flush=True)
