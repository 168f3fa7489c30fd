"""docs/troubleshooting.md quotes lines that the program still prints, and knows every reason for a reject."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from shards.media.rejects import Reason

ELSEWHERE = {"CUDA out of memory"}  # PyTorch's own line


def test_every_line_quoted_is_one_of_the_program(root: Path) -> None:
    page = (root / "docs" / "troubleshooting.md").read_text()
    files = [path for room in ("shards", "pipeline", "train", "evaluate") for path in (root / room).rglob("*.py")]
    program = "\n".join(path.read_text() for path in [*files, root / "conf" / "setup.sh"])
    # Strings go on in the next line of the source, and {names} stand where the page has dots.
    program = re.sub(r'"\s*\n\s*f?"', "", program)
    program = re.sub(r"\{[^{}]*\}", "...", program)
    rows = re.findall(r"^\| (.+?) \| .+ \|$", page, re.MULTILINE)
    quoted = [words for row in rows for words in re.findall(r"`([^`]+ [^`]+)`", row)]
    assert len(quoted) > 20
    missing = [words for words in quoted if not all(part.strip() in program for part in words.split("..."))]
    assert missing == []


def test_every_reason_is_explained(root: Path) -> None:
    page = (root / "docs" / "troubleshooting.md").read_text()
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in page] == []
