"""GOPs: few packets are held and few are decoded, however long the groups are."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from av.packet import Packet

from pipeline.decoder import gop, reader
from pipeline.decoder.clips import ClipAssembler
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.gop import GopSplitter
from pipeline.decoder.reader import frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.decoder.video import VideoTrack
from shards.format.clip import ClipSpec
from shards.media.demux import Demuxer
from tests.media import Track, film, tone

CROP = ResizeCrop(48, 48)
ONE_GOP = {"x264-params": "keyint=infinite:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal"}


class Counted(Demuxer):
    """Counts the packets that a decoder is given, and with which it may skip what no other frame refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fed: list[str] = []

    def decoded(self, decode, packet):
        if packet is not None:
            self.fed.append(packet.stream.codec_context.skip_frame)
        return super().decoded(decode, packet)


def feed(path: Path, times: list[float], **reading: object) -> tuple[VideoTrack, list[float], list[int], list[str]]:
    """The track, the times got, the number of packets held after each push, and how each fed packet was decoded."""
    held, got = [], []
    with Counted(path) as media:
        stream = media.video_stream()
        track = VideoTrack(media, stream, [CROP], DecodeSettings(**reading), iter(times), 0.5, 0.0)
        for packet in media.packets(stream):
            got += [frame.got for frame in track.push(packet)]
            held.append(count_held(track._splitter))
        got += [frame.got for frame in (*track.drain(), *track.finish(float("inf")))]
        return track, got, held, media.fed


def count_held(splitter: GopSplitter) -> int:
    return len(splitter._packets) + len(splitter._after) + len(splitter._behind)


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """60 s in GOPs of 2 s."""
    options = {"x264-params": "keyint=50:min-keyint=50:scenecut=0:bframes=3:b-adapt=0", "preset": "ultrafast"}
    return film(tmp_path_factory.mktemp("minute") / "a.mp4", 60.0, options=options, tracks=[])


def test_gops_that_nobody_asks_for_are_not_decoded(minute):
    _, got, _, fed = feed(minute, [5.01, 31.0])
    assert got == pytest.approx([5.0, 31.0])
    assert 25 < len(fed) < 2 * 35
    assert fed.count("NONREF") > 0.9 * len(fed)


def test_key_frames_alone_are_decoded_in_keyframe_mode(minute):
    _, got, _, fed = feed(minute, [5.2, 7.2, 31.2], sampling="keyframe")
    assert got == pytest.approx([6.0, 8.0, 32.0])
    assert len(fed) == 3


def test_within_a_tolerance_decoding_stops_at_the_first_frame_in_it(minute):
    """Key frames each 2 s: none is near 5.4 s, one is near 31.8 s."""
    _, got, _, fed = feed(minute, [5.4, 31.8], sampling="tolerance", tolerance=0.3)
    assert 5.1 <= got[0] < 5.1 + 4 / 25  # a P frame is decoded before the three B frames in front of it
    assert got[1] == pytest.approx(32.0)
    assert len(fed) <= (5.1 - 4) * 25 + 4 + 1


def test_no_more_than_a_gop_is_held(minute):
    assert max(feed(minute, [5.0])[2]) <= 50 + 4 + gop.REORDERED


@pytest.mark.parametrize("sampling", ["exact", "keyframe", "tolerance"])
def test_a_gop_without_end_is_decoded_as_it_comes(sampling, tmp_path, monkeypatch):
    """The same frames as with the whole GOP held, while the packets held stay few.

    Within a tolerance other frames may do: those before a part are gone.
    """
    path = film(tmp_path / "a.mkv", 30.0, options=ONE_GOP, tracks=[])
    times = [float(time) for time in np.arange(0.13, 30, 0.7)]
    reading = {"sampling": sampling, "tolerance": 0.3}
    _, whole, held, _ = feed(path, times, **reading)
    assert max(held) == 750
    monkeypatch.setattr(gop, "MAX_HELD_PACKETS", 100)
    _, parts, held, _ = feed(path, times, **reading)
    assert parts == whole or sampling == "tolerance"
    assert max(held) <= 101
    if sampling == "tolerance":
        assert np.abs(np.subtract(parts, times)).max() <= 0.3
        return
    monkeypatch.setattr(gop, "MAX_HELD_PACKETS", 10**6)
    monkeypatch.setattr(gop, "MAX_HELD_BYTES", sum(len(bytes(packet)) for packet in packets(path)) // 5)
    assert feed(path, times, **reading)[1] == whole


@pytest.mark.parametrize("what", ["MAX_HELD_PACKETS", "MAX_HELD_BYTES"])
def test_a_key_frame_stamped_far_ahead_does_not_gather_what_follows(what, minute, monkeypatch):
    """All of that is shown before it, by what the stamps say."""
    data = packets(minute)
    monkeypatch.setattr(gop, what, 100 if what == "MAX_HELD_PACKETS" else sum(map(len, data[51:151])))
    splitter, given, held = GopSplitter(), [], []
    for number, content in enumerate(data):
        begin = number / 25 + (1000 if number == 50 else 0)
        given += splitter.push(gop.TimedPacket(Packet(content), begin, begin + 0.04, number in (0, 50), hidden=False))
        held.append(count_held(splitter))
    assert max(held) <= 50 + 101 + gop.REORDERED
    assert given[0].is_doubtful and given[0].after[0].begin == 1002


def packets(path: Path) -> list[bytes]:
    with Demuxer(path) as media:
        return [bytes(packet) for packet in media.packets(media.video_stream())]


def test_parts_of_a_gop_show_the_same_pixels(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", 12.0, options=ONE_GOP, tracks=[])
    times = [float(time) for time in np.arange(0.13, 12, 0.3)]
    whole = list(frames_at(path, times, [CROP], DecodeSettings()))
    monkeypatch.setattr(gop, "MAX_HELD_PACKETS", 80)
    parts = list(frames_at(path, times, [CROP], DecodeSettings()))
    assert [time for time, _ in parts] == [time for time, _ in whole]
    assert np.array_equal([pictures for _, pictures in parts], [pictures for _, pictures in whole])


def test_leading_pictures_are_settled_with_the_gop_before(tmp_path):
    """In an open GOP they stand behind the key frame, are shown before it, and need the GOP before."""
    options = {"x265-params": "keyint=25:min-keyint=25:open-gop=1:bframes=4:b-adapt=0:log-level=none"}
    path = film(tmp_path / "a.mp4", 4.0, codec="libx265", options=options, tracks=[])
    with Demuxer(path) as media:
        splitter, given = GopSplitter(), []
        stream = media.video_stream()
        numerator, denominator = media.time_base(stream)
        for packet in media.packets(stream):
            begin = packet.pts * numerator / denominator
            given += splitter.push(gop.TimedPacket(packet, begin, begin + 0.04, packet.is_keyframe, packet.is_discard))
        given += splitter.finish()
    assert any(len(group.after) > 1 for group in given)
    shown = [packet.begin for group in given for packet in group.shown()]
    assert shown == pytest.approx([index / 25 for index in range(100)])
    for group, following in itertools.pairwise(given):
        assert group.until == following.key.begin == following.packets[0].begin


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    """Forty clips pass through; at none of them more than the next one's sound and pictures are waiting."""
    assemblers = []

    class Watched(ClipAssembler):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            assemblers.append(self)

    monkeypatch.setattr(reader, "ClipAssembler", Watched)
    sound = [Track(tone(80.0), codec="pcm_s16le")]
    path = film(tmp_path / "a.mkv", 80.0, fps=5, options={"preset": "ultrafast", "g": "10"}, tracks=sound)
    spec = ClipSpec(seconds=2.0, windows=2)
    count = 0
    for _ in reader.VideoReader(path, spec, [CROP], DecodeSettings()).clips():
        count += 1
        waiting = sum(len(piece) for _, piece in assemblers[0]._audio._pieces)
        assert len(assemblers[0]._frames) <= 2 * spec.frames and waiting <= 3 * spec.samples
    assert count == 40


@pytest.mark.parametrize("sampling", ["exact", "keyframe"])
@pytest.mark.parametrize("missing", [0, 40, 130])
def test_packets_without_a_time_are_decoded_in_turn(missing, sampling, tmp_path):
    """From the first such packet on; the decoder then knows when its frame is shown."""
    path = film(tmp_path / "a.ts", 8.0, options={"x264-params": "keyint=50:min-keyint=50:bframes=0"}, tracks=[])
    times = [float(time) for time in np.arange(1.53, 8, 0.5)]
    whole = feed(path, times)[1]
    with Demuxer(path) as media:
        stream = media.video_stream()
        track, got = VideoTrack(media, stream, [CROP], DecodeSettings(sampling=sampling), iter(times), 0.5, 0.0), []
        for index, packet in enumerate(media.packets(stream)):
            if index >= missing:
                packet.pts = None
            got += [frame.got for frame in track.push(packet)]
        got += [frame.got for frame in (*track.drain(), *track.finish(float("inf")))]
    assert len(got) == len(whole)
    if sampling == "exact":
        assert got == pytest.approx(whole)


def test_the_tail_that_is_cut_is_not_decoded(tmp_path):
    """Of 9 s, one GOP, the second window is not whole: nothing behind the first one's centre need be decoded."""
    options = {"x264-params": "keyint=250:scenecut=0"}
    path = film(tmp_path / "a.mp4", 9.0, options=options, tracks=[Track(tone(9.0))])
    fed = []

    class Watched(Demuxer):
        def decoded(self, decode, packet):
            if packet is not None and packet.stream.type == "video":
                fed.append(float(packet.pts * packet.time_base))
            return super().decoded(decode, packet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "Demuxer", Watched)
        list(reader.VideoReader(path, ClipSpec(), [CROP], DecodeSettings()).clips())
    assert max(fed) <= 3.0
