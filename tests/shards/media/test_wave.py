"""Headers of WAV files against the bytes that are there, and the samples that FFmpeg finds behind them."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from evaluate.benchmarks.recordings import require_whole
from shards.media.rejects import UnreadableMedia
from shards.media.wave import read_header
from shards.media.waveform import read_waveform

RATE = 22_050
SOUND = np.random.default_rng(0).integers(-(2**15), 2**15, 2 * RATE + 1, dtype=np.int16)
SIZE = 2 * len(SOUND)
ODD = b"junk" + struct.pack("<I", 3) + b"abc\0"
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf61.7.100\0\0"


def wav(
    path: Path,
    *,
    riff: int | None = None,
    data: int | None = None,
    before: bytes = b"",
    behind: bytes = b"",
    magic: bytes = b"RIFF",
    keep: int | None = None,
) -> Path:
    """SOUND as a WAV file whose header claims these sizes, with chunks around its data; its first `keep` bytes."""
    order = ">" if magic == b"RIFX" else "<"
    form = b"fmt " + struct.pack(order + "IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    chunk = b"data" + struct.pack(order + "I", SIZE if data is None else data)
    body = b"WAVE" + before + form + chunk + SOUND.astype(order + "i2").tobytes() + behind
    path.write_bytes((magic + struct.pack(order + "I", len(body) if riff is None else riff) + body)[:keep])
    return path


def ds64(data: int) -> bytes:
    return b"ds64" + struct.pack("<IQQQI", 28, data + 72, data, data // 2, 0)


WHOLE = {
    "plain": {},
    "whole file counted": {"riff": SIZE + 44},
    "through a pipe": {"riff": 2**32 - 1, "data": 2**32 - 1},
    "through a pipe of sox": {"riff": 0x7FFFF024, "data": 0x7FFFF000},
    "half of all": {"riff": 0x80000000, "data": 0x80000000},
    "no length": {"riff": 0, "data": 0},
    "no length of the file": {"riff": 0},
    "file much longer": {"riff": 10**6},
    "header counted with the sound": {"data": SIZE + 44},
    "an odd chunk": {"before": ODD},
    "a list before": {"before": LIST},
    "a list behind": {"behind": LIST},
    "a list behind, file too long": {"behind": LIST, "riff": 10**6},
    "RF64": {"magic": b"RF64", "riff": 2**32 - 1, "data": 2**32 - 1, "before": ds64(SIZE)},
    "RF64 through a pipe": {"magic": b"RF64", "riff": 2**32 - 1, "data": 2**32 - 1, "before": ds64(0)},
    "BW64": {"magic": b"BW64", "riff": 2**32 - 1, "data": 2**32 - 1, "before": ds64(SIZE)},
}


@pytest.mark.parametrize("header", WHOLE.values(), ids=WHOLE)
def test_a_whole_file_is_read_whole_whatever_its_header_claims(header, tmp_path):
    path = wav(tmp_path / "a.wav", **header)
    require_whole(path)
    lines: list[str] = []
    assert np.array_equal(read_waveform(path, RATE, lines.append), SOUND) and not lines


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"BW64"])
def test_a_file_that_is_cut_short_is_refused_or_read_and_said(magic, tmp_path):
    """Half a second of two."""
    sixty_four = magic in (b"RF64", b"BW64")
    header = {"magic": magic, "data": 2**32 - 1, "before": ds64(SIZE)} if sixty_four else {"magic": magic}
    path = wav(tmp_path / "a.wav", **header, keep=44 + 36 * sixty_four + RATE)
    words = "cut short: its header promises 2.00 s of sound, the file has 0.50 s"
    with pytest.raises(UnreadableMedia, match=f"damaged: {words}"):
        require_whole(path)
    lines: list[str] = []
    assert np.array_equal(read_waveform(path, RATE, lines.append), SOUND[: RATE // 2])
    assert lines == [words]


def test_a_compressed_file_that_is_cut_short_says_so_too(tmp_path):
    """FLAC's header counts its samples."""
    soundfile.write(tmp_path / "a.flac", np.tile(SOUND, 10), RATE, subtype="PCM_16")
    lines: list[str] = []
    assert np.array_equal(read_waveform(tmp_path / "a.flac", RATE, lines.append), np.tile(SOUND, 10)) and not lines
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(data[: len(data) // 2])
    found = len(read_waveform(tmp_path / "b.flac", RATE, lines.append)) / RATE
    assert lines == [f"cut short: its header promises 20.00 s of sound, the file has {found:.2f} s"] and found < 11


def test_two_data_chunks_are_refused(tmp_path):
    """FFmpeg reads one of them alone."""
    path = wav(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes() + b"data" + struct.pack("<I", SIZE) + SOUND.tobytes())
    with pytest.raises(UnreadableMedia, match="damaged: it has several data chunks"):
        read_waveform(path, RATE)


def test_a_shorter_track_beside_a_longer_one_is_not_cut_short(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        streams = [container.add_stream("aac", RATE, layout="mono") for _ in range(2)]
        for stream, seconds in zip(streams, (3, 9), strict=True):
            frame = av.AudioFrame.from_ndarray(np.tile(SOUND[:RATE], seconds)[None] // 8, "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    lines: list[str] = []
    assert len(read_waveform(tmp_path / "a.m4a", RATE, lines.append)) == pytest.approx(3 * RATE, abs=2048)
    assert not lines


def test_a_big_endian_file_is_refused(tmp_path):
    """FFmpeg takes its samples for little-endian ones: noise."""
    with pytest.raises(UnreadableMedia, match=r"unknown_codec: .* big-endian"):
        read_waveform(wav(tmp_path / "a.wav", magic=b"RIFX"), RATE)


KINDS = {  # as libsndfile writes them: where the claim stands behind this, how it is written, what it counts beside
    "a.aiff": (b"SSND", 4, ">I", 8),
    "a.au": (b".snd", 8, ">I", 0),
    "a.w64": (b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 16, "<Q", 24),
}


def kind(path: Path, claim: int | None = None, *, raw: int | None = None, keep: int | None = None) -> Path:
    """SOUND in the kind of a file's suffix, with a claim of so many bytes, or that very number; its first `keep`."""
    soundfile.write(path, SOUND, RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    name, behind, form, more = KINDS[path.name]
    place = data.index(name) + behind
    if claim is not None or raw is not None:
        struct.pack_into(form, data, place, raw if raw is not None else claim + more)
    path.write_bytes(data[: None if keep is None else len(data) - SIZE + keep])
    return path


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_are_read_whole_or_what_is_missing_is_said(name, tmp_path):
    lines: list[str] = []
    assert np.array_equal(read_waveform(kind(tmp_path / name), RATE, lines.append), SOUND) and not lines
    require_whole(tmp_path / name)
    for changed in ({"claim": SIZE + 4 * RATE}, {"keep": RATE}):
        path = kind(tmp_path / name, **changed)
        ours = read_waveform(path, RATE, lines.append)
        assert np.array_equal(ours, SOUND[: len(ours)])
        with pytest.raises(UnreadableMedia, match="damaged: cut short: its header promises"):
            require_whole(path)
    assert lines == [
        "cut short: its header promises 4.00 s of sound, the file has 2.00 s",
        "cut short: its header promises 2.00 s of sound, the file has 0.50 s",
    ]


@pytest.mark.parametrize(("name", "raw"), [("a.au", 2**32 - 1), ("a.aiff", 2**31 - 2**24), ("a.aiff", 2**32 - 1)])
def test_other_kinds_through_a_pipe_are_read_whole(name, raw, tmp_path):
    lines: list[str] = []
    assert np.array_equal(read_waveform(kind(tmp_path / name, raw=raw), RATE, lines.append), SOUND) and not lines
    require_whole(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "raw"), [("a.au", 0), ("a.aiff", 0), ("a.w64", 2**63 - 1), ("a.w64", 0), ("a.w64", 24)]
)
def test_what_ffmpeg_does_not_read_without_a_length_says_so(name, raw, tmp_path):
    with pytest.raises(UnreadableMedia, match="damaged: its header does not say how long its sound is"):
        read_waveform(kind(tmp_path / name, raw=raw), RATE)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"RIFF",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF\0\0\0\0WAVEdat",
        b"ID3" * 100,
        b"FORM\0\0\0\0AIFF",
        b"riff" + bytes(36),
    ],
)
def test_what_is_no_such_file_promises_nothing(content, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert read_header(path) is None
