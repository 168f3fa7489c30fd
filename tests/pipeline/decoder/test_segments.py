"""Segments of films that say their own time in every picture and in their sound."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import LEAD_SECONDS, VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.demux import Demuxer
from shards.media.rejects import UnreadableMedia
from tests.media import Track, chirp, film, numbered, picture_time, sound_time

SPEC = ClipSpec(seconds=4.0, windows=4)
CROP = ResizeCrop(64, 64)
SECONDS = 40.0
KINDS = {  # codecs of picture and sound, and seconds by which their delays move the two
    ".mp4": ("libx264", "aac", 0.0),
    ".mkv": ("libx264", "aac", 0.0),
    ".webm": ("libvpx", "libopus", 0.0),
    ".ts": ("libx264", "mp2", 0.03),
    ".flv": ("libx264", "aac", 0.09),
    ".avi": ("mpeg4", "mp2", 0.03),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        suffix: film(
            folder / f"a{suffix}",
            SECONDS,
            size=(64, 64),
            codec=codec,
            options={"g": "50"},
            picture=numbered,
            tracks=[Track(chirp(SECONDS), codec=sound)],
            clock=5.0 if suffix == ".ts" else 0.0,
        )
        for suffix, (codec, sound, _) in KINDS.items()
    }


def read(path: Path, begin: float, until: float) -> tuple[list[DecodedClip], VideoReader]:
    """The clips; their frames are those that a second reading, as for another teacher set, gives."""
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings(min_seconds=0.5), begin=begin, until=until)
    clips = list(reader.clips())
    times = [time for clip in clips for time in clip.got]
    again = [pictures[0] for _, pictures in frames_at(path, times, [CROP], DecodeSettings())]
    assert np.array_equal(again, np.concatenate([clip.pictures[0] for clip in clips]))
    return clips, reader


def origin(path: Path) -> float:
    """Seconds at which a file's timeline begins, as ffmpeg counts."""
    with av.open(str(path)) as container:
        return (container.start_time or 0) / av.time_base


def require_right(path: Path, clips: list[DecodedClip], begin: float, late: float) -> None:
    """Picture and sound of each window are those of its middle, and windows follow each other from `begin` on."""
    asked = [time - origin(path) for clip in clips for time in clip.asked]
    assert asked == pytest.approx([begin + 0.5 + window for window in range(len(asked))], abs=0.01 + late)
    for clip in clips:
        for time, picture in zip(clip.asked, clip.pictures[0], strict=True):
            at = round((time - clip.start) * SPEC.sample_rate)
            heard = sound_time(clip.waveform[at - 2205 : at + 2205], SPEC.sample_rate)
            assert heard == pytest.approx(time - origin(path), abs=0.03 + late)
            assert -0.025 <= heard - picture_time(picture) < 0.065


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    ("begin", "until", "seconds"),
    [(0.0, 6.0, 6), (21.5, 31.5, 10), (17.25, 20.0, 2), (12.3, 13.3, 1), (30.5, math.inf, 9), (38.0, 48.0, 2)],
)
def test_what_is_seen_and_heard_is_the_segment(films, suffix, begin, until, seconds):
    path, late = films[suffix], KINDS[suffix][2]
    clips, reader = read(path, begin, until)
    assert sum(clip.seconds for clip in clips) == seconds
    require_right(path, clips, begin, late)
    account = reader.account
    assert account.seconds == pytest.approx(min(until, SECONDS if until == math.inf else until) - begin, abs=0.1)
    assert account.in_clips == seconds and not account.repaired
    assert account.seconds == pytest.approx(seconds + sum(account.left_out.values()), abs=2e-3)
    assert account.left_out.get("unread", 0.0) == pytest.approx(8.0 if until == 48 else 0.0, abs=0.1)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_segment_shorter_than_a_window_keeps_its_length(films, suffix):
    clips, reader = read(films[suffix], 12.3, 12.9)
    assert [clip.seconds for clip in clips] == [pytest.approx(0.6, abs=1e-3)]
    late = KINDS[suffix][2]
    assert picture_time(clips[0].pictures[0][0]) == pytest.approx(12.6 - late, abs=0.04 + late)
    assert reader.account.seconds == reader.account.in_clips == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".webm"])
def test_what_lies_before_a_segment_or_behind_it_is_not_decoded(films, suffix, monkeypatch):
    plain, given = Demuxer.decoded, []

    def decoded(self, decode, packet):
        frames = plain(self, decode, packet)
        given.extend(frames)
        return frames

    monkeypatch.setattr(Demuxer, "decoded", decoded)
    reader = VideoReader(films[suffix], SPEC, [CROP], DecodeSettings(), begin=25.0, until=29.0)
    assert [clip.seconds for clip in reader.clips()] == [4.0]
    times = [frame.time - origin(films[suffix]) for frame in given if isinstance(frame, av.VideoFrame)]
    assert min(times) >= 25.0 - 2.1 and max(times) <= 29.0 + 2.1  # key frames each 2 s
    times = [frame.time - origin(films[suffix]) for frame in given if isinstance(frame, av.AudioFrame)]
    assert min(times) >= 25.0 - LEAD_SECONDS - 0.2 and max(times) <= 29.0 + 4.0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_slide_that_came_long_before_is_the_picture(suffix, tmp_path):
    shown = [0.0, 3.0, 23.0, 38.0]
    path = film(
        tmp_path / f"a{suffix}", shown=shown, last=2.0, size=(64, 64), picture=numbered, tracks=[Track(chirp(40))]
    )
    (clip,) = read(path, 20.0, 24.0)[0]
    assert [picture_time(picture) for picture in clip.pictures[0]] == [3.0, 3.0, 3.0, 23.0]


def test_a_segment_of_recordings_joined_counts_on_through_the_break(tmp_path):
    """The second part begins its clock anew; what is asked for lies on both sides."""
    parts = [
        film(
            tmp_path / f"{begin}.ts",
            10.0,
            size=(64, 64),
            picture=lambda time, begin=begin: numbered(begin + time),
            tracks=[Track(chirp(10, begin), codec="mp2")],
            options={"g": "25"},
        ).read_bytes()
        for begin in (0.0, 10.0)
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    clips, reader = read(tmp_path / "joined.ts", 6.0, 14.0)
    assert [clip.seconds for clip in clips] == [4.0, 4.0] and reader.account.repaired == {"clock_breaks": 1}
    require_right(tmp_path / "joined.ts", clips, 6.0, late=0.1)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("until", [60.0, math.inf])
def test_a_segment_behind_the_end_is_too_short(films, suffix, until):
    with pytest.raises(UnreadableMedia, match=f"too_short: .* 0.00 s in common between 50 and {until:g} s"):
        read(films[suffix], 50.0, until)
