"""The reader against a decoder that takes every frame in turn, and against flashes and clicks at known times."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from tests.media import Track, cheapest, clicks, coded, film, flashing, moving, remuxed, tone

SHORT = ClipSpec(sample_rate=22_050, seconds=2.0, windows=2, frames_per_window=4)  # a frame each quarter of a second
WHOLE = ResizeCrop(48, 48)  # the short side of a film: nothing is scaled


def read(
    path: Path, spec: ClipSpec = SHORT, view: ResizeCrop = WHOLE, **reading: object
) -> tuple[list[DecodedClip], VideoReader]:
    reader = VideoReader(path, spec, [view], DecodeSettings(**reading))
    return list(reader.clips()), reader


def every_frame(path: Path, crop: int = 48) -> list[tuple[float, np.ndarray]]:
    """(seconds, uint8 (crop, crop, 3)) of each frame in turn, by a plain sequential decode."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
            top, left = (round((length - crop) / 2) for length in picture.shape[:2])
            frames.append((frame.time, picture[top : top + crop, left : left + crop]))
    return frames


def displayed(frames: Sequence[tuple[float, np.ndarray]], time: float) -> tuple[float, np.ndarray]:
    return max((frame for frame in frames if frame[0] <= time + 1e-6), key=lambda frame: frame[0])


def assert_as_displayed(path: Path, clips: list[DecodedClip]) -> None:
    frames = every_frame(path)
    assert clips
    for clip in clips:
        for asked, got, picture in zip(clip.asked, clip.got, clip.pictures[0], strict=True):
            time, expected = displayed(frames, asked)
            assert got == pytest.approx(time, abs=1e-6)
            assert np.array_equal(picture, expected)


STREAMS = {
    "h264 with b-frames": ("a.mp4", {"options": {"x264-params": "keyint=60:bframes=3:b-adapt=0:b-pyramid=normal"}}),
    "h264 open groups": ("a.mp4", {"options": {"x264-params": "keyint=30:open-gop=1:bframes=3:b-adapt=0:scenecut=0"}}),
    "h264 matroska": ("a.mkv", {"options": {"x264-params": "keyint=40:bframes=2:b-adapt=0"}}),
    "h264 transport stream": ("a.ts", {"options": {"x264-params": "keyint=30:open-gop=1:bframes=3:b-adapt=0"}}),
    "h264 interlaced": ("a.ts", {"options": {"x264-params": "keyint=30:bframes=2:b-adapt=0:interlaced=1"}}),
    "hevc open groups": (
        "a.mp4",
        {
            "codec": "libx265",
            "options": {"x265-params": "keyint=25:min-keyint=25:open-gop=1:bframes=4:b-adapt=0:log-level=none"},
        },
    ),
    "mpeg4": ("a.mp4", {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}}),
    "mpeg2 transport stream": ("a.ts", {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime", "g": "50"}}),
    "av1": ("a.mkv", {"codec": "libsvtav1", "options": {"preset": "12", "g": "50", "svtav1-params": "lp=1"}}),
    "every frame a key": ("a.mkv", {"codec": "mjpeg"}),
    "odd times": ("a.mp4", {"shown": [0, 0.1, 0.5, 1.5, 1.6, 3.2, 3.3, 3.34, 5.0], "last": 1.0}),
}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    file, options = STREAMS[request.param]
    tracks = [Track(tone(6), codec="libopus" if file.endswith("webm") else "aac")]
    return film(tmp_path_factory.mktemp("stream") / file, 6.0, tracks=tracks, **options)


def test_frames_and_times_are_those_of_a_full_decode(stream):
    clips, reader = read(stream)
    assert [clip.index for clip in clips] == list(range(len(clips)))
    assert sum(clip.seconds for clip in clips) >= 5
    assert_as_displayed(stream, clips)
    assert reader.decode_errors == 0 and not reader.dropped


@pytest.mark.parametrize(
    "options", [{"codec": "mpeg4", "options": {"bf": "2"}}, {"options": {"x264-params": "bframes=3:b-adapt=0"}}]
)
def test_avi_which_stores_no_times_counts_its_frames(options, tmp_path):
    path = film(tmp_path / "a.avi", 6.0, tracks=[Track(tone(6), codec="libmp3lame")], **options)
    clips, _ = read(path)
    pictures = [picture for _, picture in every_frame(path)]  # the decoder's order is right, its times are not
    for clip in clips:
        for asked, got, picture in zip(clip.asked, clip.got, clip.pictures[0], strict=True):
            index = next(index for index, frame in enumerate(pictures) if np.array_equal(frame, picture))
            assert got == pytest.approx(index / 25)
            assert 0 <= asked - got < 0.04 + 1e-6


def test_real_videos(shared):
    """Frames of all real videos are those of a full decode; three of them hold 2 s groups, VFR and B-frames."""
    paths = sorted((shared / "data" / "videos").rglob("*.mp4"))
    for path in paths[1::7]:
        frames = [(frame.time, frame) for frame in decode_all(path)]
        clips, _ = read(path, ClipSpec(), ResizeCrop(64, 64))
        assert clips
        for clip in clips:
            for asked, got in zip(clip.asked, clip.got, strict=True):
                assert got == pytest.approx(displayed(frames, asked)[0], abs=1e-6)


def decode_all(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


FLASHES = [1.6, 2.4, 6.4, 7.2]


def late_sound(path: Path) -> Path:
    return flash_film(path, [Track(clicks(7.5, [time - 1.5 for time in FLASHES]), start=1.5)])


def sound_with_a_hole(path: Path) -> Path:
    return flash_film(path, [Track(clicks(9, FLASHES), hole=(3.0, 6.0))])


def late_picture(path: Path) -> Path:
    return flash_film(path, [Track(clicks(9, FLASHES))], shown=[index / 25 for index in range(25, 225)])


def edit_list(path: Path) -> Path:
    source = flash_film(path.with_name("source.mp4"), [Track(clicks(9, FLASHES))])
    return remuxed(source, path, shift=-1.13, file_options={"avoid_negative_ts": "disabled"})


def fragments(path: Path) -> Path:
    return flash_film(path, [Track(clicks(9, FLASHES))], file_options={"movflags": "frag_keyframe+empty_moov"})


def late_stream(path: Path) -> Path:
    return flash_film(path, [Track(clicks(9, FLASHES))], file_options={"output_ts_offset": "100"})


def flash_film(path: Path, tracks: list[Track], **options: object) -> Path:
    return film(path, 9.0, picture=flashing((64, 48), FLASHES), tracks=tracks, **options)


SHIFTED = {
    "a.mp4": late_sound,
    "b.ts": late_sound,
    "c.mkv": late_sound,
    "d.mp4": sound_with_a_hole,
    "e.ts": sound_with_a_hole,
    "f.mkv": sound_with_a_hole,
    "g.mp4": late_picture,
    "h.mp4": edit_list,
    "i.mp4": fragments,
    "j.ts": late_stream,
    "k.flv": late_sound,
}


@pytest.mark.parametrize("file", SHIFTED)
def test_sound_and_picture_stay_within_25_ms(file, tmp_path):
    path = SHIFTED[file](tmp_path / file)
    every_25th = ClipSpec(sample_rate=22_050, seconds=1.0, windows=1, frames_per_window=25)
    clips, _ = read(path, every_25th)
    bright, heard = [], []
    for clip in clips:
        white = clip.pictures[0].mean(axis=(1, 2, 3)) > 128
        bright += [got for got, is_white in zip(clip.got, white, strict=True) if is_white]
        heard += [clip.start + index / 22_050 for index in np.flatnonzero(np.abs(clip.waveform.astype(int)) > 8_000)]
    flashes, sounds = onsets(bright), onsets(heard)
    assert len(flashes) == len(sounds) == 4
    assert np.diff(flashes) == pytest.approx(np.diff(FLASHES), abs=1e-3)
    assert np.abs(np.subtract(flashes, sounds)).max() <= 0.025


def onsets(times: list[float]) -> list[float]:
    return [time for before, time in zip([-1.0, *times], times, strict=False) if time - before > 0.3]


def test_a_long_video_is_cut_into_clips_and_its_tail_to_whole_windows(tmp_path):
    path = film(tmp_path / "a.mp4", 7.3, fps=10, options={"g": "20"})
    clips, reader = read(path, ClipSpec(seconds=3.0, windows=3))
    assert [(clip.index, clip.seconds, len(clip.waveform), len(clip.asked)) for clip in clips] == [
        (0, 3.0, 66_150, 3),
        (1, 3.0, 66_150, 3),
        (2, 1.0, 22_050, 1),
    ]
    assert [clip.start for clip in clips] == pytest.approx([0, 3, 6])
    assert [time for clip in clips for time in clip.asked] == pytest.approx([index + 0.5 for index in range(7)])
    assert reader.media_seconds == pytest.approx(7.3, abs=0.03)
    assert reader.account.left_out["tail"] == pytest.approx(0.3, abs=0.03)


def test_only_a_video_shorter_than_a_window_keeps_its_own_length(tmp_path):
    path = film(tmp_path / "a.mp4", 3.2)
    (clip,), reader = read(path, ClipSpec(frames_per_window=2))
    assert clip.seconds == pytest.approx(3.2, abs=0.03)
    assert len(clip.waveform) == round(clip.seconds * 22_050)
    assert clip.asked == pytest.approx([clip.seconds / 4, clip.seconds * 3 / 4])
    assert "tail" not in reader.account.left_out
    assert_as_displayed(path, [clip])


def test_the_last_window_may_lack_an_audio_frame(tmp_path):
    path = film(tmp_path / "a.mp4", 4.0, tracks=[Track(tone(3.97))])
    clips, reader = read(path, ClipSpec(seconds=4.0, windows=2))
    assert [clip.seconds for clip in clips] == [4.0]
    assert len(clips[0].waveform) == 88_200
    assert "tail" not in reader.account.left_out


def test_tracks_of_data_promise_no_film(tmp_path):
    """Captions, motion, hints: here a third track, 0.8 s longer, is made one that nobody reads."""
    path = film(tmp_path / "a.mp4", 4.0, tracks=[Track(tone(4)), Track(tone(4.8))])
    data = path.read_bytes()
    for name, other in ((b"soun", b"meta"), (b"mp4a", b"mett")):
        data = other.join(data.rsplit(name, 1))
    path.write_bytes(data)
    clips, reader = read(path, ClipSpec(seconds=4.0, windows=2))
    assert [clip.seconds for clip in clips] == [4.0]
    assert reader.account.seconds == pytest.approx(4.0, abs=0.03) and "unread" not in reader.account.left_out


@pytest.mark.parametrize(("picture", "sound"), [(9.0, 4.5), (4.5, 9.0)])
def test_the_timeline_is_what_sound_and_picture_have_in_common(picture, sound, tmp_path):
    path = film(tmp_path / "a.mp4", picture, tracks=[Track(tone(sound))])
    clips, reader = read(path)
    assert [clip.seconds for clip in clips] == [2.0, 2.0]
    assert reader.media_seconds == pytest.approx(4.5, abs=0.05)


def test_a_clip_whose_frames_are_all_there_may_still_lack_picture(tmp_path):
    """The last frame asked for of [4, 6) is at 5.875 s, and the picture ends at 5.94 s."""
    path = film(tmp_path / "a.mkv", 5.94, fps=50, codec="mjpeg", tracks=[Track(tone(9.0))])
    assert [clip.seconds for clip in read(path)[0]] == [2.0, 2.0, 1.0]


def test_keyframe_sampling_takes_the_nearest_key_frame(tmp_path):
    path = film(tmp_path / "a.mp4", 8.0, options={"x264-params": "keyint=40:min-keyint=40:scenecut=0"})
    frames, keys = dict(every_frame(path)), np.arange(0, 8, 1.6)
    clips, _ = read(path, sampling="keyframe")
    assert len(clips) == 4
    for clip in clips:
        for asked, got, picture in zip(clip.asked, clip.got, clip.pictures[0], strict=True):
            assert got == pytest.approx(keys[np.abs(keys - asked).argmin()])
            assert np.array_equal(picture, frames[got])


@pytest.mark.parametrize("tolerance", [0.0, 0.11, 0.45])
def test_tolerance_sampling_takes_the_cheapest_frame_that_is_near(stream, tolerance):
    frames, packets = every_frame(stream), coded(stream)
    clips, _ = read(stream, sampling="tolerance", tolerance=tolerance)
    assert clips
    for clip in clips:
        for asked, got, picture in zip(clip.asked, clip.got, clip.pictures[0], strict=True):
            time, expected = displayed(frames, cheapest(packets, asked, tolerance))
            assert got == pytest.approx(time, abs=1e-6)
            assert np.array_equal(picture, expected)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_are_turned_upright(rotation, tmp_path):
    def quarters(time: float) -> np.ndarray:
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:24, :32] = 250, 10, 10
        return picture

    flat = read(film(tmp_path / "a.mp4", 2.0, picture=quarters))[0][0].pictures[0][0]
    turned = read(film(tmp_path / "b.mp4", 2.0, picture=quarters, rotation=rotation))[0][0].pictures[0][0]
    assert np.array_equal(turned, np.rot90(flat, rotation // 90))


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    """64 x 48 samples shown twice as wide: a bar of 8 columns becomes 16 pixels of 48 rows."""

    def bar(time: float) -> np.ndarray:
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, 28:36] = 255
        return picture

    path = film(tmp_path / "a.mp4", 2.0, picture=bar, sample_aspect=Fraction(2, 1))
    picture = read(path)[0][0].pictures[0][0]
    assert (picture[24] > 128).all(axis=1).sum() == 16


def test_views_are_scaled_as_pillow_does_and_cut_at_the_centre(tmp_path):
    path = film(tmp_path / "a.mp4", 2.0, size=(160, 120), picture=moving((160, 120)))
    reader = VideoReader(path, SHORT, [ResizeCrop(60, 48), ResizeCrop(90, 90), ResizeCrop(60, 32)], DecodeSettings())
    (clip,) = reader.clips()
    assert [pictures.shape for pictures in clip.pictures] == [(8, 48, 48, 3), (8, 90, 90, 3), (8, 32, 32, 3)]
    assert np.array_equal(clip.pictures[0][:, 8:40, 8:40], clip.pictures[2])
    with av.open(str(path)) as container:
        frame = next(frame for frame in container.decode(video=0) if frame.time == clip.got[1]).to_image()
    expected = np.asarray(frame.resize((80, 60), Image.Resampling.BICUBIC).crop((16, 6, 64, 54)), float)
    assert np.abs(clip.pictures[0][1] - expected).mean() < 4


def test_frames_at_finds_the_same_pictures_again(tmp_path):
    path = film(tmp_path / "a.mp4", 6.0, options={"x264-params": "keyint=50:bframes=3"})
    clips, _ = read(path)
    for times in ([time for clip in clips for time in clip.got], [time for clip in clips for time in clip.asked]):
        again = list(frames_at(path, times, [WHOLE], DecodeSettings()))
        assert [time for time, _ in again] == [time for clip in clips for time in clip.got]
        assert np.array_equal([pictures[0] for _, pictures in again], np.concatenate([c.pictures[0] for c in clips]))


def test_frames_at_gives_the_last_frame_for_later_times(tmp_path):
    path = film(tmp_path / "a.mp4", 2.0)
    assert [time for time, _ in frames_at(path, [1.0, 1.0, 50.0], [WHOLE], DecodeSettings())] == [1.0, 1.0, 1.96]


def test_progress_is_told_of_every_packet(tmp_path):
    path, calls = film(tmp_path / "a.mp4", 2.0), []
    list(VideoReader(path, SHORT, [WHOLE], DecodeSettings(), progress=lambda: calls.append(1)).clips())
    assert len(calls) >= 50 + 90
