"""Waveforms of a benchmark: repeated in a circle, hashed by what decides them, refused by name when damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from shards.errors import UserError


def test_a_short_recording_goes_round_in_a_circle(esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    recordings = Recordings(load_benchmark(esc_spec, esc_root), 8000)
    own, repeated = recordings.waveforms[0], recordings.repeated(0)
    assert (len(own), len(repeated)) == (5600, 8000)
    assert repeated.tolist() == (own.tolist() * 2)[:8000]
    path = recordings.benchmark.recordings[0].path
    assert np.array_equal(own, soundfile.read(path, dtype="int16")[0])  # same rate, one channel: nothing to resample


def test_a_long_recording_is_kept_whole(esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    recordings = Recordings(load_benchmark(replace(esc_spec, seconds=0.5), esc_root), 8000)
    assert len(recordings.repeated(0)) == 5600


def test_the_hash_follows_files_folds_and_rate_but_not_the_place(
    esc_spec: BenchmarkSpec, esc_root: Path, tmp_path: Path
) -> None:
    def sha256(root: Path, rate: int = 8000) -> str:
        return Recordings(load_benchmark(esc_spec, root), rate).sha256

    first = sha256(esc_root)
    moved = shutil.copytree(esc_root, tmp_path / "elsewhere")
    assert sha256(moved) == first
    assert sha256(moved, 4000) != first
    table = moved / "meta" / "esc50.csv"
    lines = table.read_text().splitlines()
    swapped = [line.replace(",1,", ",9,").replace(",2,", ",1,").replace(",9,", ",2,") for line in lines]
    table.write_text("\n".join(swapped))
    assert sha256(moved) != first
    table.write_text("\n".join(lines))
    with open(moved / "audio" / "1-0-A.wav", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    assert sha256(moved) != first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda wav: wav[:3000], "its header promises 0.70 s of sound, the file has 0.18 s"),
        (lambda wav: b"", "empty"),
        (lambda wav: b"<html>not found</html>" * 40, "not_media"),
    ],
)
def test_a_damaged_file_is_named(esc_spec: BenchmarkSpec, esc_root: Path, content: object, words: str) -> None:
    path = esc_root / "audio" / "3-2-B.wav"
    path.write_bytes(content(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        _ = Recordings(load_benchmark(esc_spec, esc_root), 8000).waveforms
    (line,) = str(caught.value).splitlines()
    assert str(path) in line and words in line and "get this file of esc-tiny again" in line


def test_a_recording_that_is_too_short_is_a_damaged_one(esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    with pytest.raises(UserError, match=r"1-0-A\.wav has 0\.70 s of sound, the recordings of esc-tiny have 1 s"):
        _ = Recordings(load_benchmark(replace(esc_spec, min_seconds=0.9), esc_root), 8000).waveforms
