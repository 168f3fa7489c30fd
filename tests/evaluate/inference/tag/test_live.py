"""Names as a sound goes on: those of the network for the clip that ends there; from a pipe, line by line."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.live import read_raw, tag_stream, windows
from evaluate.inference.tag.run import TagSettings
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from tests.evaluate.conftest import RATE, tone
from tests.forked import Forked, python
from train.checkpoint.checkpoint import load_student

COMMAND = "evaluate.inference.tag"


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> EvaluatedModel:
    return EvaluatedModel.load(checkpoint, heads=True)


@pytest.fixture
def base(checkpoint: Path, model: EvaluatedModel, tmp_path: Path) -> Path:
    path = tmp_path / "base.json"
    Baseline({"objects": np.array([0.2, 0.3, 0.5])}, "a test").save(path, model.checkpoint)
    return path


def int16(category: str, seconds: float, rate: int = RATE) -> NDArray[np.int16]:
    return np.round(tone(category, 7, seconds=seconds, rate=rate) * 16_384).astype(np.int16)


def test_windows_end_at_each_hop_and_at_the_end() -> None:
    sound = np.arange(1_000, dtype=np.int16)
    for size in (1, 7, 64, 1_000):
        pieces = [sound[at : at + size] for at in range(0, 1_000, size)]
        found = [(end, held.tolist()) for end, held in windows(pieces, 150, 133.3, 10)]
        ends = [133, 267, 400, 533, 666, 800, 933, 1_000]  # 133.3 times 1, 2, 3 ..., rounded
        assert found == [(end, sound[max(0, end - 150) : end].tolist()) for end in ends]
    assert [end for end, _ in windows([sound], 150, 199, 10)] == [199, 398, 597, 796, 995]  # 5 are too few for a line
    assert [end for end, _ in windows([sound[:3]], 150, 199, 10)] == [3] and not list(windows([], 150, 199, 10))


def test_names_are_those_of_the_clip_that_ends_there(model: EvaluatedModel, checkpoint: Path) -> None:
    sound = np.concatenate([int16("low", 3.0), int16("high", 2.5)])
    base = Baseline({"objects": np.array([0.2, 0.3, 0.5])}, "")
    found = list(tag_stream(model, base, np.array_split(sound, 17), hop=1.0, top=3))
    student, _ = load_student(checkpoint)
    steps = student.output_steps(2 * RATE)
    assert [span.end for span in found] == [1, 2, 3, 4, 5, 5.5]
    for span in found:
        end = round(span.end * RATE)
        clip = sound[max(0, end - 2 * RATE) : end]
        clip = np.tile(clip, 2)[-2 * RATE :]  # 1 s is repeated before itself
        with torch.no_grad():
            expected = student(torch.from_numpy(clip)[None].double().float() / 128)["objects"][0, :, -1].softmax(0)
        assert span.begin == pytest.approx(span.end - (2 * RATE // steps) / RATE)
        for tag in span.tags["objects"]:
            index = "abc".index(tag.name)
            assert tag.posterior == pytest.approx(expected[index].item(), rel=1e-4)
            assert tag.lift == pytest.approx(expected[index].item() / base.means["objects"][index], rel=1e-4)


def test_silent_stretches_and_the_shortest_sounds_have_no_names(model: EvaluatedModel) -> None:
    base = Baseline({"objects": np.ones(3) / 3}, "")
    sound = np.concatenate([int16("low", 2.0), np.zeros(RATE, np.int16), int16("low", 1.0)])
    found = list(tag_stream(model, base, [sound], hop=0.5, top=1))
    assert [span.unnamed for span in found] == [None] * 4 + ["silent"] * 2 + [None] * 2
    assert {len(span.tags["objects"]) for span in found if span.unnamed is None} == {1}
    (short,) = tag_stream(model, base, [sound[:700]], hop=0.5, top=1)
    assert short.unnamed == "shorter than 0.1 s" and short.tags == {"objects": []}


def test_memory_does_not_grow(model: EvaluatedModel) -> None:
    base = Baseline({"objects": np.ones(3) / 3}, "")

    def peak(minutes: int) -> int:
        pieces = (np.full(RATE, 1_000, np.int16) for _ in range(60 * minutes))
        tracemalloc.start()
        for _ in tag_stream(model, base, pieces, hop=30.0, top=1, threads=1):
            pass
        return (tracemalloc.get_traced_memory()[1], tracemalloc.stop())[0]

    peak(1)
    assert peak(60) < 1.2 * peak(5)  # an hour is 58 MB of samples, a clip 32 kB


def test_a_pipe_gives_the_lines_of_a_file(checkpoint: Path, base: Path, tmp_path: Path) -> None:
    sound = np.stack([int16("middle", 4.3, 16_000), int16("low", 4.3, 16_000)], axis=1)  # (samples, channels)
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    settings = [f"checkpoint={checkpoint}", f"base={base}", "hop=0.5", "top=2"]
    from_file = python("-m", COMMAND, tmp_path / "a.wav", *settings)
    from_pipe = Forked(COMMAND, "-", "rate=16000", "channels=2", *settings, piped=True)
    with from_pipe.stdin as pipe:
        pipe.write(sound.astype("<i2").tobytes() + b"\0")  # an odd byte
    assert from_file.returncode == from_pipe.wait() == 0
    said = from_file.stdout.splitlines(), from_pipe.stdout.readlines()
    lines = [[json.loads(line) for line in each] for each in said]
    assert [line.pop("file") for line in lines[0]] == [str(tmp_path / "a.wav")] * 9
    assert [line.pop("file") for line in lines[1]] == ["-"] * 9
    assert lines[0] == lines[1] and [line["end"] for line in lines[0]] == [*np.arange(0.5, 4.1, 0.5), 4.3]
    assert (
        lines[0][0]["lift_over"] == "the mean over a test"
        and "the last 1 byte is no whole sample" in from_pipe.communicate()[1]
    )


def test_a_line_comes_while_the_sound_goes_on(checkpoint: Path, base: Path) -> None:
    running = Forked(COMMAND, "-", "rate=8000", f"checkpoint={checkpoint}", f"base={base}", piped=True)
    for second in (1, 2):
        running.stdin.write(int16("low", 1.0 if second > 1 else 1.2).tobytes())
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["end"] == second  # the pipe is still open
    running.stdin.close()
    assert json.loads(running.stdout.readline())["end"] == 2.2 and not running.stdout.readline()
    assert running.wait() == 0


def piped(data: bytes) -> io.BufferedReader:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        stream.write(data)
    return os.fdopen(read, "rb")


def test_what_is_no_raw_sound_is_one_line() -> None:
    def heard(data: bytes) -> Iterator[NDArray[np.int16]]:
        with piped(data) as stream:
            yield from read_raw(stream, RATE, 1, RATE)

    for begin, name in ((b"RIFF", "WAV"), (b"OggS", "Ogg"), (b"fLaC", "FLAC"), (b"ID3\3", "MP3")):
        with pytest.raises(UserError, match=rf"standard input is a file \({name}\), raw samples are wanted: ffmpeg"):
            list(heard(begin + bytes(99)))
    with pytest.raises(UserError, match="no sound came on standard input"):
        list(heard(b""))
    assert np.concatenate(list(heard(b"\1\2\3\4"))).tolist() == [0x201, 0x403]


@pytest.mark.parametrize(
    ("files", "settings", "line"),
    [
        (["-"], {}, "raw samples on standard input do not say their rate: give rate="),
        (["-"], {"rate": 10}, "give rate="),
        (["-"], {"rate": 44_100, "channels": 0}, "channels="),
        (["-", "a.wav"], {"rate": 44_100}, "tagged alone"),
        (["a.wav"], {"rate": 44_100}, "files say their own"),
        (["a.wav"], {"hop": 0.0}, "at least 0.1"),
        (["-"], {"rate": 44_100, "hop": float("nan")}, "at least 0.1"),
        (["a.wav"], {"hop": 1.0, "out": Path("a.json")}, "a line of JSON at a time"),
        (["a.wav"], {"hop": 1.0, "format": "csv"}, "a line of JSON at a time"),
    ],
)
def test_what_does_not_go_together_is_said(files: list[str], settings: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        TagSettings([Path(each) for each in files], Path("a.pt"), **settings)  # type: ignore[arg-type]


def test_without_a_mean_a_base_is_asked_for(checkpoint: Path) -> None:
    done = python("-m", COMMAND, "-", "rate=8000", f"checkpoint={checkpoint}")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and "holds no mean posterior" in done.stderr
