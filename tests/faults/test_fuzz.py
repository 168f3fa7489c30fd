"""The media reader over mutated videos: clips or a reason, and nothing else, within a worker's memory."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import get_args

import pytest

from shards.media.rejects import Reason
from tests.faults.commands import python
from tests.media import Track, film, tone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
MADE = {  # file -> how it is made
    "a.mp4": {},
    "b.mp4": {"file_options": {"movflags": "faststart"}},
    "c.mkv": {},
    "d.ts": {},
    "e.webm": {"codec": "libvpx-vp9", "tracks": [Track(tone(5), codec="libopus")]},
    "f.avi": {"codec": "mpeg4", "tracks": [Track(tone(5), codec="libmp3lame")]},
}
REASONS = frozenset(get_args(Reason))


def outcomes(video: Path, count: int, scratch: Path) -> collections.Counter[str]:
    """What the mutations of a video gave, each once; the process must end by itself."""
    done = python("-m", "tests.faults.fuzzing", video, count, scratch)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{video.name}: mutation {len(lines)}: code {done.returncode}\n{done.stderr[-3000:]}"
    assert len(lines) == count
    return collections.Counter(line.split(" ", 2)[2] for line in lines)


@pytest.mark.parametrize("name", MADE)
def test_mutations_of_made_videos(tmp_path: Path, name: str) -> None:
    found = outcomes(film(tmp_path / name, 5.0, **MADE[name]), 160, tmp_path)
    clips = {f"{count} clips" for count in range(4)}
    assert found.keys() <= REASONS | clips
    assert found["3 clips"] > 16 and found.keys() & REASONS  # neither is everything refused, nor everything believed


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "karma.mp4", "max-heromode.mp4", "nasa_13013.mp4"])
def test_mutations_of_real_videos(shared: Path, tmp_path: Path, name: str) -> None:
    video = shared / "data" / "videos" / name
    if not video.is_file():
        pytest.skip(f"{video} is not there")
    found = outcomes(video, 24, tmp_path)
    assert found.keys() <= REASONS | {f"{count} clips" for count in range(4)}
