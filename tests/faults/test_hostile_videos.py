"""Videos that declare absurd sizes, and names that mean something to a shell: a reason, within a worker's memory."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from shards.format.check import check
from tests.faults.commands import ROOT, finish, labelling, python, start
from tests.media import Track, film, tone
from tests.pipeline.conftest import render

CHILD = """
import resource, sys
from pathlib import Path
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.rejects import UnreadableMedia
from shards.media.waveform import read_waveform
used = int(Path('/proc/self/statm').read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + 10**9, used + 10**9))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        if name.endswith('.wav'):
            print(name, len(read_waveform(Path(name), 22_050)) / 22_050, 's')
        else:
            spec = ClipSpec(seconds=2.0, windows=2)
            reader = VideoReader(Path(name), spec, [ResizeCrop(48, 48)], DecodeSettings(), lambda: None)
            print(name, sum(1 for _ in reader.clips()), 'clips')
    except UnreadableMedia as error:
        print(name, error.reason)
print('megabytes', (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def absurd_wav(path: Path, *, rate: int = 22_050, channels: int = 1, claimed: int | None = None) -> Path:
    """A second of sound, or what its header makes of it."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(22_050)
        writer.writeframes(np.full(22_050, 99, np.int16).tobytes())
    data = bytearray(path.read_bytes())
    data[22:24], data[24:28] = channels.to_bytes(2, "little"), rate.to_bytes(4, "little")
    data[28:32], data[32:34] = (2 * rate % 2**32).to_bytes(4, "little"), (2 * channels % 2**16).to_bytes(2, "little")
    if claimed is not None:
        data[40:44] = claimed.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def patched(path: Path, box: bytes, at: int, value: bytes) -> Path:
    """A film in whose every such box some bytes, counted from the box's name, are others."""
    data = bytearray(film(path, 6.0).read_bytes())
    place = data.find(box)
    assert place >= 0
    while place >= 0:
        data[place + at : place + at + len(value)] = value
        place = data.find(box, place + 4)
    path.write_bytes(data)
    return path


def test_absurd_sizes_give_reasons_and_take_little_memory(tmp_path: Path) -> None:
    huge = b"\xff\xff\xff\xff"
    paths = [
        absurd_wav(tmp_path / "one hertz.wav", rate=1),
        absurd_wav(tmp_path / "2 GHz.wav", rate=2**31 - 1),
        absurd_wav(tmp_path / "no hertz.wav", rate=0),
        absurd_wav(tmp_path / "65535 channels.wav", channels=65_535),
        absurd_wav(tmp_path / "no channels.wav", channels=0),
        absurd_wav(tmp_path / "4 GB.wav", claimed=2**32 - 2),
        patched(tmp_path / "picture 65535.mp4", b"avc1", 28, huge),
        patched(tmp_path / "track 65535.mp4", b"tkhd", 80, b"\xff\xff\x00\x00" * 2),
        patched(tmp_path / "a century.mp4", b"mdhd", 20, huge),
        patched(tmp_path / "a century of film.mp4", b"mvhd", 20, huge),
        patched(tmp_path / "a sample a century.mp4", b"stts", 16, b"\x7f\xff\xff\xff"),
        patched(tmp_path / "4 billion samples.mp4", b"stsz", 12, huge),
        patched(tmp_path / "a sample of 4 GB.mp4", b"stsz", 16, huge),
        patched(tmp_path / "4 billion chunks.mp4", b"stco", 8, huge),
        patched(tmp_path / "channels.mp4", b"mp4a", 20, b"\xff\xff"),
        patched(tmp_path / "a time scale of 0.mp4", b"mdhd", 16, bytes(4)),
    ]
    done = python("-c", CHILD, *paths)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    *lines, last = done.stdout.splitlines()
    found = {Path(path).name: line[len(str(path)) + 1 :] for path, line in zip(paths, lines, strict=True)}
    assert float(last.split()[1]) < 300
    refused = {name for name, what in found.items() if what in ("unknown_codec", "not_media", "no_audio", "damaged")}
    assert {"one hertz.wav", "2 GHz.wav", "no hertz.wav", "no channels.wav"} <= refused, found
    assert found["4 GB.wav"] == "1.0 s" and found["a century of film.mp4"] == "3 clips", found


def test_more_pixels_than_allowed_are_refused_whatever_the_container_says(tmp_path: Path) -> None:
    """Four thousand by four thousand in the stream itself."""
    path = film(
        tmp_path / "a.mkv",
        1.0,
        fps=2,
        codec="mjpeg",
        size=(4096, 4096),
        picture=lambda time: np.zeros((4096, 4096, 3), np.uint8),
        tracks=[Track(tone(1), codec="libmp3lame")],
    )
    program = CHILD.replace("DecodeSettings()", "DecodeSettings(max_pixels=4096 * 4095)")
    done = python("-c", program, path)
    line, last = done.stdout.splitlines()
    assert line == f"{path} too_large" and float(last.split()[1]) < 300


NAMES = ["a\nb.mp4", "$(touch pwned).mp4", "`touch pwned`.mp4", "; touch pwned; .mp4", "--help.mp4", "a b\t'c\".mp4"]
NAMES += ["http:a.mp4", "%00.mp4", "..mp4", "é\udcff.mp4"]


@pytest.mark.faults
@pytest.mark.parametrize("listed", [False, True], ids=["a folder", "a list"])
def test_names_are_names_and_nothing_more(network_folder: Path, tmp_path: Path, listed: bool) -> None:
    videos, shards = tmp_path / "videos", tmp_path / "shards; touch pwned"
    videos.mkdir()
    render(videos / "plain.mp4", 2.0)
    for seed, name in enumerate(NAMES):
        render(videos / "made.mp4", 2.0, seed=seed + 1)
        (videos / "made.mp4").rename(videos / name)
    source = videos
    if listed:
        source = tmp_path / "list, $(touch pwned).csv"
        rows = ['"videos/' + name.replace('"', '""') + '"' for name in ["plain.mp4", *NAMES]]
        source.write_text("\n".join(["path", *rows]), errors="surrogateescape")
    expected = len(NAMES) + 1 - (0 if listed else 1)  # of a folder, hidden files are no inputs
    finish(start("pipeline", *labelling(source, shards, network_folder)))
    assert check(shards).clips == expected
    page = (shards / "report.html").read_text()
    assert "$(touch pwned)" in page
    assert not [path for path in (*tmp_path.rglob("pwned*"), ROOT / "pwned") if path.is_file()]
    assert {path.name for path in tmp_path.iterdir()} <= {"videos", shards.name, "list, $(touch pwned).csv"}
