"""A video that changes or vanishes between plan and read, or while it is read: what the record then says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.decode_task import DecodeConfig, decode
from pipeline.executor.job import DecodeResult, DecodeTask
from pipeline.videos.keys import key_of
from shards.format.clip import ClipSpec
from tests.media import film


def read(folder: Path, hand_over: Callable[[DecodedClip], None]) -> DecodeResult:
    """The video as a decode worker reads it, once it is planned."""
    spec = ClipSpec(seconds=2.0, windows=2)
    decoding = DecodeConfig(
        str(folder), folder, spec, [ResizeCrop(48, 48)], DecodeSettings(), None, keep_frames=False, memory_gigabytes=4.0
    )
    return decode(DecodeTask("train-000000", "a.mp4", key_of("a.mp4"), 0), decoding, hand_over, lambda: None)


def test_what_changed_since_the_plan_is_recorded_as_it_was_read(tmp_path: Path) -> None:
    """The plan knows a name. Size and hash are those of the bytes that were decoded."""
    film(tmp_path / "a.mp4", 2.0)
    planned = (tmp_path / "a.mp4").read_bytes()
    film(tmp_path / "a.mp4", 6.0)
    clips: list[DecodedClip] = []
    result = read(tmp_path, clips.append)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data != planned and (result.bytes, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert result.reason is None and len(clips) == 3


def test_what_vanished_since_the_plan_is_not_found(tmp_path: Path) -> None:
    result = read(tmp_path, lambda clip: None)
    assert (result.reason, result.bytes, result.sha256) == ("not_found", -1, "")


@pytest.mark.parametrize("fate", ["rewritten", "replaced", "longer", "gone"])
def test_what_changes_while_it_is_read_is_rejected_whole(tmp_path: Path, fate: str) -> None:
    """Its hash would not be that of its clips."""
    path = film(tmp_path / "a.mp4", 6.0)
    other = film(tmp_path / "b.mp4", 6.0, fps=20).read_bytes()

    def disturb(clip: DecodedClip) -> None:
        if clip.index != 1:
            return
        if fate == "gone":
            path.unlink()
        elif fate == "replaced":
            (tmp_path / "b.mp4").replace(path)
        else:
            path.write_bytes(other if fate == "rewritten" else path.read_bytes() + b"more")

    result = read(tmp_path, disturb)
    assert (result.reason, result.detail) == ("changed", "the file changed, or vanished, while it was read")


def test_what_does_not_change_is_not_rejected(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 6.0)
    assert read(tmp_path, lambda clip: path.read_bytes() and None).reason is None
