"""An input's key and its split: functions of its path, segment and group alone, never of what else is in the folder."""

from __future__ import annotations

import hashlib
import math
from urllib.parse import quote

MAX_KEY = 64  # tar's ustar names hold 100 characters; clip number, head and extension need the rest


def key_of(relative_path: str, start: float = 0.0, end: float = math.inf) -> str:
    """An injective escape of the path, extension included: percent-encoding, dots too (`a/b.mp4` -> `a%2Fb%2Emp4`).

    A segment follows in seconds, `a%2Fb%2Emp4+10+20%2E5`; no escape contains a `+`. What is too long keeps its
    beginning and gets a hash; `=` marks it, which no escape contains either.
    """
    segment = segment_text(start, end)
    key = quote(relative_path, safe="", errors="surrogateescape").replace(".", "%2E")
    key += f"+{segment.replace('.', '%2E')}" if segment else ""
    if len(key) <= MAX_KEY:
        return key
    whole = f"{relative_path}\0{segment}" if segment else relative_path  # no path holds a zero byte
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:32]
    return f"{key[: MAX_KEY - len(digest) - 1]}={digest}"


def segment_text(start: float, end: float) -> str:
    """`10+20.5`, or `10+` up to the file's end; empty for the whole file. Equal numbers give equal texts."""
    return "" if start == 0 and end == math.inf else f"{_number(start)}+{'' if end == math.inf else _number(end)}"


def segment_of(text: str) -> tuple[float, float]:
    """(start, end): the way back from `segment_text`."""
    start, _, end = text.partition("+")
    return float(start or 0), float(end or math.inf)


def _number(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0").replace("e+", "e")


def split_of(name: str, validation_share: float, seed: int) -> str:
    """`train` or `validation`, by a hash of a group or a key, so that it stays what it is when videos are added."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64
    return "validation" if draw < validation_share else "train"
