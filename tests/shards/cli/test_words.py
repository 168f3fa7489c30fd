"""One thing is not several."""

from __future__ import annotations

from shards.cli.words import amount


def test_one_is_singular_and_none_and_many_are_plural() -> None:
    assert [amount(count, "shard") for count in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]
    assert [amount(count, "class", many="classes") for count in (1, 2)] == ["1 class", "2 classes"]
