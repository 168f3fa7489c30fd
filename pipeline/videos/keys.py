"""A video's key and its split: each a function of its relative path alone, never of what else is in the folder."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

MAX_KEY = 64  # tar's ustar names hold 100 characters; clip number, head and extension need the rest


def key_of(relative_path: str) -> str:
    """An injective escape of the path, extension included: percent-encoding, dots too (`a/b.mp4` -> `a%2Fb%2Emp4`).

    A path whose escape is too long keeps its beginning and gets a hash; `=` marks it, which no escape contains.
    """
    key = quote(relative_path, safe="", errors="surrogateescape").replace(".", "%2E")
    if len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(relative_path.encode(errors="surrogateescape")).hexdigest()[:32]
    return f"{key[: MAX_KEY - len(digest) - 1]}={digest}"


def split_of(key: str, validation_share: float, seed: int) -> str:
    """`train` or `validation`, by a hash, so that it stays what it is when videos are added."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64
    return "validation" if draw < validation_share else "train"
