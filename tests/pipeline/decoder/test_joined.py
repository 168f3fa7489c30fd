"""Recordings joined to one file, and what lies behind a film that is none, judged as in test_field.py."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from tests.media import Track, chirp, film, numbered
from tests.pipeline.decoder.test_field import CROP, SPEC, read, require_right, speaking, spoken


def part(path: Path, begin: float, end: float, offset: float = 0.0, sound: str = "mp2", **options: object) -> bytes:
    """A transport or program stream of a part of the film, whose own clock begins at `offset`."""
    tracks = [Track(chirp(end - begin, begin), codec=sound)]
    picture = {"size": (64, 64), "picture": lambda time: numbered(begin + time), "options": {"g": "25"}} | options
    return film(path, end - begin, **picture, tracks=tracks, clock=offset).read_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("offsets", [(0.0, 0.0, 0.0), (0.0, 1000.0, 0.0), (9000.0, 0.0, 20.0), (0.0, 3.0, 1.0)])
def test_recordings_joined_are_one_film(suffix, offsets, tmp_path):
    """Each part begins its clock anew, or leaps ahead: one unbroken film of 12 s, as its parts are."""
    kind = {"codec": "mpeg2video"} if suffix == ".mpg" else {}
    cuts = (0.0, 5.0, 8.0, 12.0)
    parts = [
        part(tmp_path / f"{number}{suffix}", *cuts[number : number + 2], offset, **kind)
        for number, offset in enumerate(offsets)
    ]
    (tmp_path / f"joined{suffix}").write_bytes(b"".join(parts))
    clips = read(tmp_path / f"joined{suffix}")
    require_right(clips, sum(clip.seconds for clip in clips), wander=0.1)
    assert sum(clip.seconds for clip in clips) >= 11


@pytest.mark.parametrize("sound", ["mp2", "aac"])
@pytest.mark.parametrize("overlap", [0.41, 0.43, 0.45, 0.5, 0.8])
def test_recordings_joined_whose_clock_falls_back_a_little_stay_together(sound, overlap, tmp_path):
    """Sound and picture do not fall back by quite the same: by enough for a new clock, or not. It is one for both."""
    parts = [part(tmp_path / "0.ts", 0, 6, 0, sound), part(tmp_path / "1.ts", 6, 12, 6 - overlap, sound)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    clips = read(tmp_path / "joined.ts")
    off = [sound_says - picture for picture, sound_says in spoken(clips) if not -0.025 <= sound_says - picture < 0.065]
    assert sum(clip.seconds for clip in clips) >= 11
    assert len(off) <= 1 and all(abs(seconds) < 0.55 for seconds in off)  # where both overlap


def test_recordings_joined_whose_pictures_lie_in_front_of_their_sound_stay_together(tmp_path):
    """The picture's clock falls back by 0.50 s, and no new one begins; the sound's, by 0.53 s, a second behind it."""
    cuts, path = (0.0, 5.0, 8.0, 12.0), tmp_path / "joined.mpg"
    parts = [part(tmp_path / "a.mpg", *ends, ends[0], codec="mpeg2video") for ends in itertools.pairwise(cuts)]
    path.write_bytes(b"".join(parts))
    clips = read(path)
    apart = [heard - picture for picture, heard in spoken(clips) if not -0.025 <= heard - picture < 0.065]
    assert sum(clip.seconds for clip in clips) >= 11
    assert len(apart) <= 1 and all(abs(seconds) < 0.55 for seconds in apart)  # where both overlap


def test_recordings_joined_whose_streams_are_others_are_accounted_for(tmp_path):
    """What lies behind the streams that the file begins with, which it does not tell the length of, is unread."""
    ids = {"mpegts_start_pid": "0x300"}
    parts = [part(tmp_path / "0.ts", 0.0, 6.0), part(tmp_path / "1.ts", 6.0, 12.0, 6.0, file_options=ids)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    reader = VideoReader(tmp_path / "joined.ts", SPEC, [CROP], DecodeSettings())
    clips = list(reader.clips())
    require_right(clips, sum(clip.seconds for clip in clips))
    assert 5 <= reader.account.in_clips <= 6
    assert reader.account.seconds == pytest.approx(12, abs=0.5)
    assert reader.account.left_out["unread"] == pytest.approx(6, abs=0.5)


def test_what_is_attached_behind_the_film_is_not_unread(tmp_path):
    """Fonts and cover art in Matroska; here an element of zeros (RFC 8794, 11.3.2), as large as the film."""
    path = speaking(tmp_path / "a.mkv")
    size = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(b"\xec\x01" + size.to_bytes(7, "big") + bytes(size))
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    assert sum(clip.seconds for clip in reader.clips()) == 12
    assert reader.account.left_out.get("unread", 0.0) < 0.1


@pytest.mark.parametrize(
    ("suffix", "sound", "seconds"),
    [(".mov", "pcm_s16le", 6.0), (".mp4", "aac", 2.0), (".fragmented.mp4", "aac", 6.0), (".flv", "aac", 2.0)],
)
def test_of_films_joined_the_rest_is_unread_however_small(suffix, sound, seconds, tmp_path):
    """As `cat` writes them: players show the first one alone."""
    options = {"file_options": {"movflags": "frag_keyframe+empty_moov"} if "fragmented" in suffix else {}}
    ends = ((0.0, 6.0), (6.0, 6.0 + seconds))
    parts = [part(tmp_path / f"{begin}{suffix}", begin, end, 0.0, sound, **options) for begin, end in ends]
    path = tmp_path / f"joined{suffix}"
    for content, whole in ((parts[0], 6.0), (b"".join(parts), 6.0 + seconds)):
        path.write_bytes(content)
        reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
        assert sum(clip.seconds for clip in reader.clips()) <= 6.0
        assert reader.account.seconds == pytest.approx(whole, abs=0.6 + 0.25 * (whole - 6.0))
        assert content is not parts[0] or reader.account.left_out.get("unread", 0.0) < 0.1


@pytest.mark.parametrize("place", ["middle", "end"])
def test_an_index_that_is_written_again_is_no_second_film(place, tmp_path):
    """As in a stream whose segments each begin with it, and by cameras that write it ahead and once more behind."""
    path = speaking(tmp_path / "a.mp4", file_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    data = path.read_bytes()
    fragments = [match.start() - 4 for match in re.finditer(b"moof", data)]
    head, at = data[: fragments[0]], fragments[len(fragments) // 2] if place == "middle" else len(data)
    path.write_bytes(data[:at] + head + data[at:])
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    assert sum(clip.seconds for clip in reader.clips()) >= 11
    assert reader.account.left_out.get("unread", 0.0) < 0.1


@pytest.mark.parametrize(("suffix", "codec", "sound"), [(".mkv", "libx264", "aac"), (".webm", "libvpx", "libopus")])
def test_matroska_files_joined_are_one_film(suffix, codec, sound, tmp_path):
    """As browsers' recorders write them, part by part: times of display alone, which fall back to zero."""
    kind = {"codec": codec}
    parts = [part(tmp_path / f"{begin}{suffix}", begin, begin + 8.0, 0.0, sound, **kind) for begin in (0.0, 8.0)]
    (tmp_path / f"joined{suffix}").write_bytes(b"".join(parts))
    clips = read(tmp_path / f"joined{suffix}")
    require_right(clips, sum(clip.seconds for clip in clips), wander=0.02)
    assert sum(clip.seconds for clip in clips) >= 15
