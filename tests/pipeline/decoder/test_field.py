"""Films as people have them, judged by films that say their own time in every picture and in their sound."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.rejects import UnreadableMedia
from tests.media import (
    Track,
    cheapest,
    chirp,
    coded,
    damaged,
    film,
    numbered,
    picture_time,
    remuxed,
    sound_file,
    sound_time,
    tone,
)

SPEC = ClipSpec(seconds=4.0, windows=4)
CROP = ResizeCrop(64, 64)
EVEN = np.arange(0, 12, 0.04)


def speaking(path: Path, **options: object) -> Path:
    """A film of 12 s that says its own time."""
    options = {"size": (64, 64), "picture": numbered, "tracks": [Track(chirp(12))], "options": {"g": "25"}} | options
    return film(path, 12.0, **options)  # type: ignore[arg-type]


def read(path: Path, spec: ClipSpec = SPEC) -> list[DecodedClip]:
    """The clips; their frames are those that a second reading, as for another teacher set, gives."""
    clips = list(VideoReader(path, spec, [CROP], DecodeSettings()).clips())
    times = [time for clip in clips for time in clip.got]
    again = [pictures[0] for _, pictures in frames_at(path, times, [CROP], DecodeSettings())]
    assert np.array_equal(again, np.concatenate([clip.pictures[0] for clip in clips]))
    return clips


def spoken(clips: list[DecodedClip], spec: ClipSpec = SPEC) -> Iterator[tuple[float, float]]:
    """What picture and sound say of themselves at the time of each frame."""
    half = spec.sample_rate // 10
    for clip in clips:
        for asked, picture in zip(clip.asked, clip.pictures[0], strict=True):
            at = round((asked - clip.start) * spec.sample_rate)
            yield picture_time(picture), sound_time(clip.waveform[at - half : at + half], spec.sample_rate)


def require_right(clips: list[DecodedClip], seconds: float, step: float = 0.04, wander: float = 0.0) -> None:
    """So many seconds, picture and sound as one, and each window a second behind the one before it."""
    assert sum(clip.seconds for clip in clips) == seconds
    said = list(spoken(clips))
    assert len(said) == seconds
    for picture, sound in said:
        assert -0.025 - wander <= sound - picture < step + 0.025 + wander
    for (_, before), (_, after) in itertools.pairwise(said):
        assert after - before == pytest.approx(1.0, abs=0.025 + wander)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A film with B-frames, to be put into containers."""
    return speaking(tmp_path_factory.mktemp("plain") / "plain.mp4", options={"g": "25", "bf": "4"})


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".fragmented.mp4", ".mkv", ".flv", ".ts"])
@pytest.mark.parametrize(("leap", "across"), [(1000.0, None), (5000.0, None), (1000.0, 5.3), (5000.0, 5.26)])
def test_a_leap_of_all_stamps_is_left_out(plain, suffix, leap, across, tmp_path):
    """Between packets that are no further apart in the file than others: nothing lies there. B-frames reach over it."""
    options = {"movflags": "frag_keyframe+empty_moov"} if "fragmented" in suffix else {}
    at = across or 5.0
    path = remuxed(plain, tmp_path / f"a{suffix}", leap=(at, leap), across=bool(across), file_options=options)
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    clips = list(reader.clips())
    require_right(clips, sum(clip.seconds for clip in clips), wander=0.1)
    assert 11 <= sum(clip.seconds for clip in clips) <= 12
    assert reader.account.repaired["clock_breaks"] == 1
    assert reader.account.seconds == pytest.approx(12 + leap, abs=0.2)
    assert reader.account.left_out["behind_break"] == pytest.approx(leap, abs=0.2)
    assert reader.account.left_out.get("unread", 0.0) < 0.2


def test_a_last_slide_behind_a_leap_is_shown_in_its_place(tmp_path):
    """No packet follows that bears out its stamp; the sound has leapt to the same place."""
    path = speaking(tmp_path / "a.flv", shown=[0.0, 6.0], last=6.0, leap=(4.2, 25.0))
    clips = read(path)
    assert sum(clip.seconds for clip in clips) in (11.0, 12.0)
    for picture, heard in spoken(clips):
        assert picture == (6.0 if heard > 6 else 0.0)


def misstamped(path: Path, number: int, off: float) -> None:
    """Moves the time of one picture of a Matroska file, whose blocks have milliseconds and nothing else."""
    with av.open(str(path)) as container:
        track = container.streams.video[0].index + 1
        place = [packet.pos for packet in container.demux(video=0) if packet.size][number]
    data = bytearray(path.read_bytes())
    place = data.index(0x80 | track, place) + 1
    (time,) = struct.unpack_from(">h", data, place)
    struct.pack_into(">h", data, place, time + round(1000 * off))
    path.write_bytes(data)


@pytest.fixture(scope="module", params=["0", "3"])
def matroska(request, tmp_path_factory):
    """A film with as many B-frames; its key frames are 50 frames apart."""
    options = {"g": "50", "bf": request.param, "sc_threshold": "0"}
    return speaking(tmp_path_factory.mktemp("matroska") / "a.mkv", options=options)


@pytest.mark.parametrize(
    ("number", "off"),
    [(100, -1.2), (100, -0.2), (100, 0.2), (100, 1.5), (100, 5.0), (131, 0.2), (131, 3.0), (131, 8.0), (133, 0.4)],
)
def test_one_picture_with_a_wrong_stamp_costs_no_other(matroska, number, off, tmp_path):
    """Matroska has nothing but the time of display; the frame is left out and counted, and the others stay."""
    path = Path(shutil.copy(matroska, tmp_path))
    misstamped(path, number, off)
    assert coded(path)[number][1] == (number == 100)
    reader = VideoReader(path, ClipSpec(seconds=4.0, windows=4, frames_per_window=10), [CROP], DecodeSettings())
    clips = list(reader.clips())
    assert sum(clip.seconds for clip in clips) == 12
    for clip in clips:
        late = [asked - picture_time(picture) for asked, picture in zip(clip.asked, clip.pictures[0], strict=True)]
        assert min(late) >= -1e-6 and max(late) < 0.08 + 1e-6  # one frame more than each stays
    assert reader.account.repaired["broken_stamps"] == 1
    times = [time for clip in clips for time in clip.got]
    again = [pictures[0] for _, pictures in frames_at(path, times, [CROP], DecodeSettings())]
    assert np.array_equal(again, np.concatenate([clip.pictures[0] for clip in clips]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("frames", ["0", "3"])
def test_uneven_frames_are_no_wrong_stamps(frames, suffix, tmp_path):
    """As of phones, which now and then are late by half a frame: GOPs are skipped from then on too."""
    shown = [number / 25 + (0.02 if number % 40 == 13 else 0.0) for number in range(300)]
    path = speaking(tmp_path / f"a{suffix}", shown=shown, options={"g": "25", "bf": frames, "sc_threshold": "0"})
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings(sampling="keyframe"))
    clips = list(reader.clips())
    frames_of = coded(path)
    for clip in clips:
        assert clip.got == pytest.approx([cheapest(frames_of, asked, 1.0) for asked in clip.asked], abs=1e-6)
    assert sum(clip.seconds for clip in clips) >= 11 and not reader.account.repaired


@pytest.mark.parametrize(("codec", "frames"), [("mpeg4", "0"), ("mpeg4", "2"), ("libx264", "0"), ("libx264", "3")])
def test_avi_shows_its_pictures_at_their_places_in_the_file(codec, frames, tmp_path):
    """It has no times of display, and FFmpeg's guess is late by the frames that a codec may reorder."""
    sound = [Track(chirp(12), codec="pcm_s16le")]
    path = speaking(tmp_path / "a.avi", codec=codec, options={"g": "25", "bf": frames}, tracks=sound)
    clips = read(path)
    assert sum(clip.seconds for clip in clips) >= 11
    for picture, sound_says in spoken(clips):  # asked for at the middle of a frame
        assert sound_says - picture == pytest.approx(0.02, abs=0.01)


def test_a_stream_behind_the_other_in_the_file_is_not_unread(tmp_path):
    """All packets of the picture, and then all of the sound."""
    tracks = [Track(chirp(80), codec="mp2")]
    path = film(tmp_path / "a.ts", 80.0, fps=5, size=(64, 64), picture=numbered, tracks=tracks)
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(sorted(packets, key=lambda packet: packet[1] & 31 == 1 and packet[2] == 1)))  # its PID
    reader = VideoReader(path, LONG, [CROP], DecodeSettings())
    assert sum(clip.seconds for clip in reader.clips()) == 80
    assert reader.account.left_out.get("unread", 0.0) < 0.1 and reader.account.seconds == pytest.approx(80, abs=0.5)


@pytest.mark.parametrize("sound", ["libmp3lame", "pcm_s16le"])
def test_an_avi_that_was_cut_short_is_as_long_as_its_header_says(sound, tmp_path):
    whole = speaking(tmp_path / "a.avi", codec="mpeg4", tracks=[Track(chirp(12), codec=sound)])
    reader = VideoReader(damaged(whole, tmp_path / "b.avi", keep=0.6), SPEC, [CROP], DecodeSettings())
    clips = list(reader.clips())
    require_right(clips, sum(clip.seconds for clip in clips))
    assert reader.account.seconds == pytest.approx(12, abs=0.1)
    assert reader.account.left_out["unread"] == pytest.approx(0.4 * 12, abs=0.5)


@pytest.fixture(scope="module", params=[".ts", ".mpg", ".mp4"])
def minute(request, tmp_path_factory):
    """A film of 60 s in a container of its own."""
    sound = Track(chirp(60), codec="aac" if request.param == ".mp4" else "mp2")
    options = {"size": (64, 64), "picture": numbered, "options": {"g": "25"}, "tracks": [sound]}
    codec = "mpeg2video" if request.param == ".mpg" else "libx264"
    return film(tmp_path_factory.mktemp("minute") / f"a{request.param}", 60.0, codec=codec, **options)


@pytest.mark.parametrize(
    ("minute", "seed"),
    [(".ts", 0), (".ts", 1), (".ts", 2), (".mpg", 1), (".mpg", 2), (".mp4", 0)],
    indirect=["minute"],
    scope="module",
)
@pytest.mark.parametrize("share", [0.002, 0.02])
def test_damage_in_the_middle_costs_nothing_in_front_and_behind(minute, seed, share, tmp_path):
    """A broken stamp is not believed, nor are those that FFmpeg derives from it: time does not run away."""
    path = damaged(minute, tmp_path / f"b{minute.suffix}", share=share, seed=seed, within=(1 / 3, 2 / 3))
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    clips = list(reader.clips())
    assert reader.account.seconds == pytest.approx(60, abs=0.2)
    good = [clip for clip in clips if clip.start < 15 or clip.start > 43]
    assert len(good) == 8
    for picture, sound_says in spoken(good):
        assert -0.025 <= sound_says - picture < 0.065


@pytest.mark.parametrize("each", ["frag_keyframe", "frag_every_frame"])
def test_stamps_that_wander_hide_nothing_in_a_fragmented_file(each, tmp_path):
    """FFmpeg marks packets as hidden whose time of decoding is not beyond that of the one before."""
    path = speaking(
        tmp_path / "a.mp4",
        wander=0.02,
        options={"g": "25", "bf": "0"},  # those of B-frames are written wrongly then
        file_options={"movflags": f"{each}+empty_moov"},
    )
    clips = read(path)
    require_right(clips, 12, wander=0.02)
    assert not any((clip.waveform == 0).mean() > 0.02 for clip in clips)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".flv", ".fragmented.mp4", ".mp4"])
def test_sound_that_begins_late_begins_the_clips(suffix, tmp_path):
    """Matroska and transport streams say that it begins with the picture, and a fragmented file has a packet there."""
    options = {"movflags": "frag_keyframe+empty_moov"} if "fragmented" in suffix else {}
    sound = Track(chirp(9, 3), start=3.0, codec="mp2" if suffix == ".ts" else "aac")
    path = speaking(tmp_path / f"a{suffix}", tracks=[sound], file_options=options)
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    clips = list(reader.clips())
    require_right(clips, sum(clip.seconds for clip in clips))
    assert 8 <= sum(clip.seconds for clip in clips) <= 9
    assert reader.account.left_out["before_common_start"] == pytest.approx(3.0, abs=0.1)
    assert all((clip.waveform == 0).mean() < 0.02 for clip in clips)


LONG = ClipSpec(seconds=20.0, windows=4)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".nut", ".avi"])
@pytest.mark.parametrize("pace", [3, 7, 20])
def test_slides_stay_until_the_next_one_comes(suffix, pace, tmp_path):
    slides = [float(time) for time in range(0, 60, pace)]
    sound = Track(tone(60), codec="mp2")
    path = film(
        tmp_path / f"a{suffix}",
        shown=slides,
        last=60.0 - slides[-1],
        size=(64, 64),
        picture=numbered,
        tracks=[sound],
        codec="mpeg4" if suffix == ".avi" else "libx264",
    )
    clips = read(path, LONG)
    assert sum(clip.seconds for clip in clips) == 60.0
    reader = VideoReader(path, LONG, [CROP], DecodeSettings())
    list(reader.clips())
    assert not reader.account.repaired
    if suffix == ".ts":  # others promise the delay of B-frames as length
        assert reader.account.seconds == pytest.approx(60, abs=0.2)
    for clip in clips:
        shown = [picture_time(picture) for picture in clip.pictures[0]]
        assert shown == [(asked - clips[0].start) // pace * pace for asked in clip.asked]


@pytest.mark.parametrize(
    ("suffix", "shown", "seconds"),
    [
        *itertools.product([".webm", ".mkv", ".ts", ".flv"], [[0.0, 8.0, 16.0, 24.0]], [30]),
        *itertools.product([".webm", ".mkv", ".ts", ".flv"], [[0.0, 3.0, 6.0]], [5]),
        *itertools.product([".webm", ".mkv", ".ts", ".flv", ".mp4", ".mov"], [[0.0]], [30]),
    ],
)
def test_the_last_frame_stays_while_there_is_sound(suffix, shown, seconds, tmp_path):
    """It does not say how long: no longer than one before it did, and a single one to the end."""
    path = film(
        tmp_path / f"a{suffix}",
        shown=shown,
        last=0.04,
        codec="libvpx" if suffix == ".webm" else "libx264",
        size=(64, 64),
        picture=numbered,
        tracks=[Track(tone(32), codec={".webm": "libopus", ".ts": "mp2"}.get(suffix, "aac"))],
        options={"bf": "0"},
    )
    clips = read(path, LONG)
    assert sum(clip.seconds for clip in clips) == seconds
    for clip in clips:
        asked = [time - clips[0].start for time in clip.asked]
        assert [picture_time(picture) for picture in clip.pictures[0]] == [
            max(begin for begin in shown if begin <= time) for time in asked
        ]


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_an_even_films_last_frame_does_not_stay(suffix, tmp_path):
    path = speaking(tmp_path / f"a{suffix}", tracks=[Track(chirp(20), codec="mp2")])
    require_right(read(path), 12)


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_a_frame_only_when_something_changes(suffix, tmp_path):
    """Blocks that do not say how long they last."""
    path = film(
        tmp_path / f"a{suffix}",
        shown=[0.0, 7.0, 14.0, 18.4, 31.0],
        codec="libvpx",
        size=(64, 64),
        picture=numbered,
        tracks=[Track(tone(32), codec="libopus")],
        unsaid=True,
        file_options={"live": "1"},
    )
    (first, second) = read(path, LONG)
    assert [picture_time(picture) for picture in first.pictures[0]] == [0.0, 7.0, 7.0, 14.0]
    assert [picture_time(picture) for picture in second.pictures[0]] == [18.4, 18.4]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_two_stills_and_minutes_of_sound(suffix, tmp_path):
    """A picture far behind the sound has not ended."""
    sound = Track(tone(160), codec="mp2")
    path = film(tmp_path / f"a{suffix}", shown=[0.0, 80.0], last=80.0, size=(64, 64), picture=numbered, tracks=[sound])
    clips = read(path, LONG)
    assert sum(clip.seconds for clip in clips) == 160
    assert all(picture_time(clip.pictures[0][0]) == (80.0 if clip.start > 79 else 0.0) for clip in clips)


@pytest.mark.faults  # slow: films of minutes
@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4", ".avi"])
@pytest.mark.parametrize("lag", [90.0, -90.0])
def test_streams_far_apart_in_the_file_are_read_in_step(suffix, lag, tmp_path):
    shown = [float(time) for time in np.arange(0, 101, 0.5)]
    path = film(
        tmp_path / f"a{suffix}",
        shown=shown,
        last=0.5,
        size=(64, 64),
        picture=numbered,
        tracks=[Track(chirp(100), codec="mp2")],
        lag=lag,
        codec="mpeg4" if suffix == ".avi" else "libx264",
        file_options={"max_interleave_delta": "1"},
    )
    clips = read(path, LONG)
    assert [clip.seconds for clip in clips] == [20.0] * 5
    for picture, sound in spoken(clips, LONG):
        assert -0.03 <= sound - picture < 0.53


def test_a_sound_that_ends_early_ends_the_reading(tmp_path):
    """The packets behind the minute that is waited are never read."""
    shown = [float(time) for time in np.arange(0, 300, 0.5)]
    path = film(tmp_path / "a.mkv", shown=shown, size=(64, 64), picture=numbered, tracks=[Track(tone(10.5))])
    packets: list[int] = []
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings(), lambda: packets.append(0))
    assert [clip.seconds for clip in reader.clips()] == [4.0, 4.0, 2.0]
    assert len(packets) < 800  # 600 pictures, 493 of sound


@pytest.mark.parametrize("scheme", ["cenc-aes-ctr"])
def test_what_is_encrypted_says_so(scheme, tmp_path):
    key = {"encryption_scheme": scheme, "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    path = speaking(tmp_path / "a.mp4", file_options=key | {"encryption_kid": "a7e61c373e219033c21091fa607bf3b8"})
    with pytest.raises(UnreadableMedia, match="encrypted"):
        read(path)


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    speaking(folder / "neighbour.mp4")
    speaking(folder / "neighbour.ts")
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mp4", "ffconcat version 1.0\nfile neighbour.mp4\n"),
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\nneighbour.ts\n#EXT-X-ENDLIST\n"),
        ("a.mkv", "#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\nneighbour.ts\n#EXT-X-ENDLIST\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("a.mpd", '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n'),
    ],
)
def test_a_file_that_names_other_files_is_no_media(name, text, neighbours):
    (neighbours / name).write_text(text)
    with pytest.raises(UnreadableMedia, match="not_media"):
        read(neighbours / name)


@pytest.mark.parametrize("title", ["", "Director's commentary", "Audiokommentar", "Comentario", "Audiodeskription"])
def test_a_commentary_before_the_main_sound_is_not_taken(title, tmp_path):
    tracks = [Track(tone(12, 3000), default=False, comments=not title, title=title), Track(chirp(12), default=False)]
    require_right(read(speaking(tmp_path / "a.mkv", tracks=tracks)), 12)


def crc(data: bytes) -> bytes:
    """CRC-32 as MPEG has it (ISO 13818-1, annex A)."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return struct.pack(">I", register)


def multiplex(radio: bytes, television: bytes) -> bytes:
    """Two transport streams of one programme each (1 by PMT 0x1000, 2 by PMT 0x1100), packet by packet, as one."""
    programmes = struct.pack(">HHHH", 1, 0xE000 | 0x1000, 2, 0xE000 | 0x1100)
    table = struct.pack(">BHHBBB", 0, 0xB000 | len(programmes) + 9, 1, 0xC1, 0, 0) + programmes
    head = struct.pack(">BHB", 0x47, 0x4000, 0x10) + b"\0" + table + crc(table)
    packets = [head.ljust(188, b"\xff")]
    for pair in itertools.zip_longest(
        *([data[at : at + 188] for at in range(0, len(data), 188)] for data in (radio, television))
    ):
        packets += [packet for packet in pair if packet and struct.unpack(">H", packet[1:3])[0] & 0x1FFF not in (0, 17)]
    return b"".join(packets)


def test_sound_is_that_of_the_pictures_own_programme(tmp_path):
    ids = {"mpegts_pmt_start_pid": "0x1000", "mpegts_start_pid": "0x200"}
    radio = sound_file(tmp_path / "radio.ts", tone(12, 3000), "mp2", file_options=ids)
    ids = {"mpegts_pmt_start_pid": "0x1100", "mpegts_start_pid": "0x300", "mpegts_service_id": "2"}
    television = speaking(tmp_path / "tv.ts", tracks=[Track(chirp(12), codec="mp2")], file_options=ids)
    (tmp_path / "both.ts").write_bytes(multiplex(radio.read_bytes(), television.read_bytes()))
    with av.open(str(tmp_path / "both.ts")) as container:
        assert [stream.type for stream in container.streams].count("audio") == 2
    require_right(read(tmp_path / "both.ts"), 12)


def test_sound_far_beyond_full_scale_is_in_the_account(tmp_path):
    """And samples that are no numbers; a mixer's overshoot, by less than twice, is nothing to mend."""
    sound = np.asarray(chirp(5.0)).copy()
    sound[1000:1040], sound[2000:2030], sound[3000:3020] = 1.9, -20_000.0, np.nan
    path = speaking(tmp_path / "a.mov", tracks=[Track(sound, codec="pcm_f32le")])
    reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
    assert [clip.seconds for clip in reader.clips()] == [4.0, 1.0]
    assert reader.account.repaired == {"clipped_samples": 30, "non_finite_samples": 20}
