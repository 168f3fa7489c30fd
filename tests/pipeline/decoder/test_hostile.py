"""What breaks readers of videos from the wild: each gives a reason, or clips as far as there are good frames."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.error import FFmpegError

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.videos.fetch import at_hand
from shards.format.clip import ClipSpec
from shards.media.file import MediaFile, _opened
from shards.media.rejects import UnreadableMedia, unreadable
from tests.media import (
    Track,
    chirp,
    cover_art,
    damaged,
    film,
    moving,
    numbered,
    picture_time,
    sound_file,
    sound_time,
    tone,
)

SPEC = ClipSpec(seconds=2.0, windows=2, frames_per_window=2)
CROP = ResizeCrop(48, 48)
FAST = {"preset": "veryfast"}


def read(path: Path, spec: ClipSpec = SPEC, **settings: object) -> tuple[list[DecodedClip], VideoReader]:
    reader = VideoReader(path, spec, [CROP], DecodeSettings(**settings))
    return list(reader.clips()), reader


def reason(path: Path, spec: ClipSpec = SPEC, **settings: object) -> str:
    with pytest.raises(UnreadableMedia) as caught:
        read(path, spec, **settings)
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.detail}"
    assert "\n" not in caught.value.detail and str(path.parent) not in caught.value.detail
    return caught.value.reason


def test_what_is_no_file(tmp_path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert reason(tmp_path / "none.mp4") == "not_found"
    assert reason(tmp_path / "link.mp4") == "not_found"
    assert reason(tmp_path / "loop.mp4") == "not_found"
    assert reason(tmp_path / "fifo.mp4") == "not_a_file"
    assert reason(tmp_path / "folder.mp4") == "not_a_file"
    assert reason(Path("/dev/zero")) == "not_a_file"


def test_what_may_not_be_read():
    folder = Path(tempfile.mkdtemp())  # tmp_path may itself be closed to others
    try:
        folder.chmod(0o755)
        path = folder / "a.mp4"
        path.write_bytes(b"x")
        path.chmod(0)
        closed = folder / "closed"
        closed.mkdir(mode=0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            assert reason(path) == "no_permission"
            assert reason(closed / "a.mp4") == "no_permission"
            for place in (path, closed / "a.mp4", closed / "none.mp4"):
                with pytest.raises(UnreadableMedia, match=r"^no_permission"), at_hand(str(place), folder, int, 1e9):
                    pass
        finally:
            os.seteuid(user)
            closed.chmod(0o755)
    finally:
        shutil.rmtree(folder)


def test_a_limit_of_the_machine_is_no_fault_of_the_file(tmp_path):
    """No more open files: neither our own opening of it nor FFmpeg's says that there is no file, or no media."""
    path = film(tmp_path / "a.mp4", 2.0)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(path, os.O_RDONLY)
    os.close(free)
    for open_it in (MediaFile, _opened):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limit[1]))
        try:
            with pytest.raises(UnreadableMedia, match=r"^io_error: Too many open files$"):
                open_it(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)


class Failing:
    """A container whose disk fails once, as FFmpeg tells it: with an error, or as if the file ended there."""

    def __init__(self, container: InputContainer, packets: int, *, says_so: bool) -> None:
        self._container, self._packets, self._says_so = container, packets, says_so

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def demux(self, *streams: object) -> Iterator[object]:
        yield from itertools.islice(self._container.demux(*streams), self._packets)
        self._packets = 0
        if self._says_so:
            raise FFmpegError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(("says_so", "lasts"), [(True, False), (True, True), (False, True)])
def test_an_error_of_the_disk_is_not_the_films_end(says_so, lasts, monkeypatch, tmp_path):
    """Also one of which another reading of the file, by FFmpeg or by us, says nothing any more."""
    path = film(tmp_path / "a.ts", 8.0)
    assert len(read(path)[0]) == 4
    first = iter([True])

    def opened(path: Path, **options: str) -> object:
        container = _opened(path, **options)
        return Failing(container, 200, says_so=says_so) if next(first, False) else container

    monkeypatch.setattr("shards.media.file._opened", opened)
    if lasts:
        error = UnreadableMedia("io_error", os.strerror(errno.EIO))
        for room in ("shards.media.file", "pipeline.decoder.reader"):
            monkeypatch.setattr(f"{room}.require_readable", Mock(side_effect=error))
    assert reason(path) == "io_error"


def test_a_cut_that_ffmpeg_calls_an_error_of_the_disk_costs_the_rest_alone(monkeypatch, tmp_path):
    """Where it says the same each time, of a file that can be read through."""
    path = film(tmp_path / "a.ts", 8.0)
    monkeypatch.setattr(
        "shards.media.file._opened",
        lambda path, **options: Failing(_opened(path, **options), 200, says_so=True),
    )
    clips, reader = read(path)
    assert 1 <= len(clips) <= 3 and reader.account.left_out["unread"] > 1


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EIO, "io_error"),
        (errno.ESTALE, "io_error"),
        (errno.ENOMEM, "out_of_memory"),
        (errno.EACCES, "no_permission"),
        (errno.EPERM, "no_permission"),
        (errno.ENOTDIR, "not_found"),
        (errno.ENAMETOOLONG, "not_found"),
        (errno.ENXIO, "not_a_file"),
    ],
)
def test_what_the_system_says_of_a_file_has_a_reason(number, reason):
    assert unreadable(OSError(number, os.strerror(number))).reason == reason


def test_what_is_no_media(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_text("<html><body>Video not found</body></html>")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(100_000))
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:10,\nhttp://192.0.2.1/a.ts\n")
    whole = film(tmp_path / "whole.mp4", 2.0)
    data = whole.read_bytes()
    (tmp_path / "no index.mp4").write_bytes(data[: data.rindex(b"moov") - 4])
    assert reason(tmp_path / "empty.mp4") == "empty"
    assert reason(tmp_path / "page.mp4") == "not_media"
    assert reason(tmp_path / "noise.mp4") == "not_media"
    assert reason(tmp_path / "list.mp4") == "not_media"
    assert reason(tmp_path / "no index.mp4") == "not_media"


def test_a_codec_that_nobody_knows(tmp_path):
    data = film(tmp_path / "whole.mp4", 2.0).read_bytes()
    (tmp_path / "picture.mp4").write_bytes(data.replace(b"avc1", b"\xff\xfe\xfd\xfc"))
    (tmp_path / "sound.mp4").write_bytes(data.replace(b"mp4a", b"\xff\xfe\xfd\xfc").replace(b"esds", b"free"))
    assert reason(tmp_path / "picture.mp4") == "unknown_codec"
    assert reason(tmp_path / "sound.mp4") == "unknown_codec"


def test_metadata_that_is_not_utf8(tmp_path):
    path = film(tmp_path / "a.mkv", 2.0, metadata={"title": "XXXXXXXX"})
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", b"\xff\xfe\xe9\xfc\xff\xfe\xe9\xfc"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(read(path)[0]) == 1


@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"http:a.mp4", b"%d.mp4", b"a\nb.mp4"])
def test_names_that_are_odd(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    shutil.copy(film(tmp_path / "a.mp4", 2.0), path)
    assert len(read(path)[0]) == 1


def test_what_lacks_sound_or_picture(tmp_path):
    assert reason(film(tmp_path / "mute.mp4", 2.0, tracks=[])) == "no_audio"
    assert reason(sound_file(tmp_path / "sound.m4a", tone(3), "aac")) == "no_video"
    assert reason(cover_art(tmp_path / "cover.mp3", tone(3))) == "no_video"
    assert reason(sound_file(tmp_path / "sound.wav", tone(3), "pcm_s16le")) == "no_video"


def test_cover_art_is_not_taken_for_the_picture(tmp_path):
    path = film(tmp_path / "a.mp4", 2.0, cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    (clip,), _ = read(path)
    assert len({picture.tobytes() for picture in clip.pictures[0]}) == 4  # the cover would be a still


def test_an_mp4_cut_short_gives_what_is_there(tmp_path):
    whole = film(tmp_path / "whole.mp4", 10.0, file_options={"movflags": "faststart"})
    clips, reader = read(damaged(whole, tmp_path / "half.mp4", keep=0.6))
    assert 2 <= len(clips) <= 3
    assert 4 < reader.media_seconds < 7
    for ours, theirs in zip(clips, read(whole)[0], strict=False):
        assert ours.got == theirs.got[: len(ours.got)]
        assert np.array_equal(ours.pictures[0], theirs.pictures[0][: len(ours.got)])


@pytest.mark.parametrize("file", ["a.mkv", "a.ts"])
def test_streams_cut_short_end_where_their_packets_end(file, tmp_path):
    whole = film(tmp_path / file, 10.0)
    clips, reader = read(damaged(whole, tmp_path / f"half-{file}", keep=0.6))
    assert 2 <= len(clips) <= 3
    assert 4 < reader.media_seconds < 7
    assert all(0 <= asked - got < 0.041 for clip in clips for asked, got in zip(clip.asked, clip.got, strict=True))


@pytest.mark.parametrize("file", ["a.mp4", "a.mkv", "a.ts"])
def test_damaged_packets_cost_no_more_than_their_clips(file, tmp_path):
    """One byte in 5,000 is wrong: errors are counted, frames stay near the times asked for, sound stays in place."""
    whole = film(tmp_path / file, 20.0, size=(128, 96), picture=moving((128, 96)), options={"g": "25"} | FAST)
    clips, reader = read(damaged(whole, tmp_path / f"bad-{file}", share=2e-4))
    assert len(clips) >= 5
    assert reader.decode_errors > 0
    assert [clip.index for clip in clips] == sorted({clip.index for clip in clips})
    for clip in clips:
        assert len(clip.waveform) == 44_100
        assert clip.start == pytest.approx(clips[0].start + 2.0 * (clip.index - clips[0].index))
    far = [asked - got for clip in clips for asked, got in zip(clip.asked, clip.got, strict=True) if asked - got > 0.25]
    assert len(far) <= 1  # until a first error tells of the damage, packets that are missing look like a still picture


def test_a_clip_that_is_mostly_damaged_is_dropped_and_the_others_are_right(tmp_path):
    """One byte in 50 is wrong within a third of the file; the film says its own time."""
    tracks = [Track(chirp(24), codec="mp2")]
    whole = film(tmp_path / "a.mkv", 24.0, size=(64, 64), picture=numbered, tracks=tracks, options={"g": "25"})
    data, random = bytearray(whole.read_bytes()), np.random.default_rng(0)
    third = len(data) // 3
    for place in random.integers(third, 2 * third, third // 50):
        data[place] = random.integers(256)
    whole.write_bytes(data)
    reader = VideoReader(whole, SPEC, [ResizeCrop(64, 64)], DecodeSettings())
    clips = list(reader.clips())
    assert 6 <= len(clips) <= 9 and len(clips) + len(reader.dropped) == 12
    assert reader.account.left_out["dropped_clip"] == 2.0 * len(reader.dropped)
    for clip in clips:
        for asked, picture in zip(clip.asked, clip.pictures[0], strict=True):
            at = round((asked - clip.start) * SPEC.sample_rate)
            heard = sound_time(clip.waveform[max(at - 2205, 0) : at + 2205], SPEC.sample_rate)
            assert heard - picture_time(picture) == pytest.approx(0.02, abs=0.05)


@pytest.mark.parametrize("file", ["a.mkv", "a.ts"])
def test_a_file_that_is_mostly_damaged_is_refused(file, tmp_path):
    whole = film(tmp_path / file, 20.0, size=(64, 64), picture=numbered, options={"g": "25"})
    assert reason(damaged(whole, tmp_path / f"bad-{file}", share=0.02)) in ("damaged", "too_short")


def test_a_hole_in_the_picture_shows_the_frame_before(tmp_path):
    """A stream without the packets of 4 to 8 s: the frame before stays on the screen, as in any player."""
    path = film(tmp_path / "a.ts", 12.0, tracks=[Track(tone(12))], options={"g": "25"}, hole=(4.0, 8.0))
    clips, _ = read(path)
    assert [clip.index for clip in clips] == [0, 1, 2, 3, 4, 5]
    begin = clips[0].start
    assert {round(got - begin, 2) for clip in clips[2:4] for got in clip.got} == {3.96}


def test_a_hole_torn_into_a_file_costs_the_clips_within(tmp_path):
    """The transport stream's own counters tell that packets are missing: what is shown then nobody knows."""
    path = film(tmp_path / "a.ts", 12.0, tracks=[Track(tone(12), codec="mp2")], options={"g": "25"})
    packets = [path.read_bytes()[at : at + 188] for at in range(0, path.stat().st_size, 188)]
    pictures = [number for number, packet in enumerate(packets) if packet[1] & 31 == 1 and packet[2] == 0]
    torn = set(pictures[len(pictures) // 3 : len(pictures) * 2 // 3])
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in torn))
    clips, reader = read(path)
    assert 2 <= len(clips) <= 4 and len(clips) + len(reader.dropped) == 6
    assert all(abs(asked - got) <= 0.25 for clip in clips for asked, got in zip(clip.asked, clip.got, strict=True))


@pytest.mark.parametrize("seconds", [3.0, 0.9])
@pytest.mark.parametrize("file", ["a.mkv", "a.avi"])
def test_a_video_without_one_good_frame_is_damaged(file, seconds, tmp_path):
    tracks = [Track(tone(seconds), codec="libmp3lame")]
    path = film(tmp_path / file, seconds, codec="mpeg4", garbage=True, tracks=tracks)
    assert reason(path, min_seconds=0.5) == "damaged"


def test_a_file_that_calls_every_frame_a_key_frame(tmp_path):
    """Single frames do not decode alone; such a video is decoded in turn."""
    options = {"x264-params": "keyint=100:scenecut=0:bframes=2"}
    honest, _ = read(film(tmp_path / "a.mp4", 6.0, options=options))
    path = film(tmp_path / "b.mp4", 6.0, options=options, all_keys=True)
    clips, _ = read(path)
    assert [clip.got for clip in clips] == [clip.got for clip in honest]
    assert all(np.array_equal(ours.pictures[0], theirs.pictures[0]) for ours, theirs in zip(clips, honest, strict=True))
    times = [time for clip in clips for time in clip.got]
    assert [time for time, _ in frames_at(path, times, [CROP], DecodeSettings())] == times


def test_still_pictures_are_fine(tmp_path):
    slow = ClipSpec(seconds=20.0, windows=4)
    clips, _ = read(film(tmp_path / "a.mp4", shown=[0, 10, 20, 30], last=10.0, tracks=[Track(tone(40))]), slow)
    assert [clip.got for clip in clips] == [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]]
    (clip,), _ = read(film(tmp_path / "b.mp4", shown=[0], last=10.0, tracks=[Track(tone(10))]), slow)
    assert clip.got == [0.0, 0.0]
    assert np.array_equal(clip.pictures[0][0], clip.pictures[0][1])


def test_too_short(tmp_path):
    assert reason(film(tmp_path / "a.mp4", 0.6)) == "too_short"
    assert reason(film(tmp_path / "b.mp4", 3.0), min_seconds=4.0, spec=ClipSpec()) == "too_short"
    assert reason(film(tmp_path / "c.mp4", 3.0, tracks=[Track(tone(3), start=8.0)])) == "too_short"


def test_too_large(tmp_path):
    path = film(tmp_path / "a.webm", 2.0, codec="libvpx-vp9", tracks=[Track(tone(2), codec="libopus")])
    assert reason(path, max_pixels=64 * 48 - 1) == "too_large"
    assert len(read(path, max_pixels=64 * 48)[0]) == 1


def test_silence(tmp_path):
    assert reason(film(tmp_path / "a.mp4", 3.0, tracks=[Track(0 * tone(3))])) == "silent"
    clips, _ = read(film(tmp_path / "b.mp4", 6.0, tracks=[Track(np.append(0 * tone(4), tone(2)))]))
    assert [clip.waveform.any() for clip in clips] == [False, False, True] or clips[1].waveform[-2_000:].any()


def test_a_silent_default_track_gives_way_to_one_that_is_not(tmp_path):
    path = film(tmp_path / "a.mp4", 2.0, tracks=[Track(0 * tone(2)), Track(tone(2, 880), default=False)])
    (clip,), _ = read(path)
    assert hertz(clip.waveform) == pytest.approx(880, abs=2)
    path = film(tmp_path / "b.mp4", 2.0, tracks=[Track(tone(2), default=False), Track(tone(2, 880))])
    (clip,), _ = read(path)
    assert hertz(clip.waveform) == pytest.approx(880, abs=2)


def hertz(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * 22_050 / len(waveform))


def test_frames_at_gives_a_reason_too(tmp_path):
    with pytest.raises(UnreadableMedia, match="not_found"):
        list(frames_at(tmp_path / "none.mp4", [1.0], [CROP], DecodeSettings()))
    with pytest.raises(UnreadableMedia, match="no_video"):
        list(frames_at(sound_file(tmp_path / "a.m4a", tone(2), "aac"), [1.0], [CROP], DecodeSettings()))


def test_a_frame_a_day_ahead_makes_no_day_of_clips(tmp_path):
    """The frame before it is on the screen until the sound ends."""
    path = film(tmp_path / "a.mkv", shown=[*np.arange(0, 5, 0.04), 86_400.0], tracks=[Track(tone(6))])
    clips, reader = read(path)
    assert [clip.seconds for clip in clips] == [2.0, 2.0, 2.0]
    assert reader.media_seconds < 6.1
