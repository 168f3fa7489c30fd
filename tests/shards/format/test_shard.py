"""A clip's origin is read back as it was written, or not at all: other frame times would be other labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shards.format.example import ClipMeta
from shards.format.shard import DamagedShard, metas
from shards.format.sidefile import finished
from shards.media.levels import SILENCE


def test_a_digit_that_flipped_in_a_clips_times_is_found(tmp_path: Path, make_shards: Callable[..., Path]) -> None:
    folder = make_shards(tmp_path, {"train-000000": 3})
    (side,) = finished(folder)
    written = [ClipMeta("v", "v.mp4", 1, "0" * 64, clip, 0.0, 2.0, [], []) for clip in range(3)]
    found = list(metas(folder, side))
    assert [replace(meta, peak_db=SILENCE, rms_db=SILENCE) for meta in found] == written  # what its sound adds
    tar = folder / "train-000000.tar"
    data = tar.read_bytes()
    tar.write_bytes(data.replace(b'"seconds": 2.0', b'"seconds": 3.0', 1))
    with pytest.raises(DamagedShard, match=r"train-000000\.tar: \S+-00000\.json: its checksum is not"):
        list(metas(folder, side))
