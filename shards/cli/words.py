"""Numbers of things in a line for the user."""

from __future__ import annotations


def amount(count: int, thing: str, *, many: str = "") -> str:
    """`1 shard`, `0 shards`; `many` is the plural where it is not formed with an s."""
    return f"{count} {thing if count == 1 else many or thing + 's'}"
