from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shards.format.members import DamagedExample
from shards.format.payload import READ_SOUND, npy_header, read_posterior, wav_header

SOUND = np.random.default_rng(0).integers(-(2**15), 2**15, 300, dtype=np.int16)
POSTERIOR = np.random.default_rng(1).random((4, 6)).astype(np.float16)
OFFSET = 512
Put = Callable[[bytes], tuple[int, tuple[int, int]]]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put(data) -> (descriptor, place) of data between other bytes in a file."""

    def write(data: bytes) -> tuple[int, tuple[int, int]]:
        (tmp_path / "tar").write_bytes(b"\1" * OFFSET + data + b"\2" * 512)
        return os.open(tmp_path / "tar", os.O_RDONLY), (OFFSET, len(data))

    return write


def sound_of(samples: NDArray[np.generic], rate: int = 1000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def npy_of(array: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_sound_written_by_another_program_lands_in_the_row(put: Put, audio: str) -> None:
    row = np.zeros(300, np.int16)
    READ_SOUND[audio](*put(sound_of(SOUND, kind=audio.upper())), row, 1000)
    np.testing.assert_array_equal(row, SOUND)


WRONG = {
    "rate": sound_of(SOUND, rate=1001),
    "stereo": sound_of(np.stack([SOUND[:150], SOUND[:150]], axis=1)),
    "24 bits": sound_of(SOUND[:200], subtype="PCM_24"),
    "shorter": sound_of(SOUND[:299]) + b"\0\0",
    "not a wav": sound_of(SOUND).replace(b"WAVE", b"AVI "),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wav_that_is_not_as_the_catalog_says_is_refused(put: Put, fault: str) -> None:
    with pytest.raises(DamagedExample, match="header is not that of 300 samples, mono, 16 bits, at 1000 Hz"):
        READ_SOUND["wav"](*put(WRONG[fault][:644].ljust(644, b"\0")), np.zeros(300, np.int16), 1000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sound_of(SOUND, rate=999, kind="FLAC"), "at 999 Hz"),
        (sound_of(SOUND[:299], kind="FLAC"), "holds 299 samples"),
        (sound_of(np.stack([SOUND, SOUND], axis=1), kind="FLAC"), "2 channels"),
        (b"fLaC" + bytes(200), "cannot be decoded"),
        (sound_of(SOUND, kind="FLAC")[:150], "cannot be decoded|ends after"),
    ],
)
def test_a_flac_that_is_not_as_the_catalog_says_is_refused(put: Put, data: bytes, message: str) -> None:
    with pytest.raises(DamagedExample, match=message):
        READ_SOUND["flac"](*put(data), np.zeros(300, np.int16), 1000)


def test_a_posterior_saved_by_numpy_lands_in_its_rows(put: Put) -> None:
    rows = np.zeros((4, 6), np.float16)
    read_posterior(*put(npy_of(POSTERIOR)), rows)
    np.testing.assert_array_equal(rows, POSTERIOR)


def test_a_posterior_with_a_longer_header_is_read_too(put: Put) -> None:
    data = npy_of(POSTERIOR)
    length = int.from_bytes(data[8:10], "little")
    header = data[10 : 9 + length] + b" " * 64 + b"\n"
    padded = data[:8] + len(header).to_bytes(2, "little") + header + data[10 + length :]
    rows = np.zeros((4, 6), np.float16)
    read_posterior(*put(padded), rows)
    np.testing.assert_array_equal(rows, POSTERIOR)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (POSTERIOR.reshape(6, 4), r"\(6, 4\), side file and manifest say \(4, 6\)"),
        (POSTERIOR.astype(np.int16), "int16"),
        (np.asfortranarray(POSTERIOR), "bytes follow"),
        (np.array([[None] * 3] * 2, object), "object|bytes follow"),
    ],
)
def test_a_posterior_of_another_layout_is_refused(put: Put, array: NDArray[np.generic], message: str) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    data = stream.getvalue().ljust(128 + 48, b"\0")[: 128 + 48]
    with pytest.raises(DamagedExample, match=message):
        read_posterior(*put(data), np.zeros((4, 6), np.float16))


def test_a_member_beyond_the_end_of_the_file_is_refused(put: Put) -> None:
    descriptor, (offset, size) = put(sound_of(SOUND))
    with pytest.raises(DamagedExample, match=f"ends after {size + 12} of its {size + 500} bytes"):
        READ_SOUND["wav"](descriptor, (offset + 500, size + 500), np.zeros(550, np.int16), 1000)


def test_headers_are_those_of_the_standard_libraries() -> None:
    for samples in (1, 300, 441_000):
        assert sound_of(np.zeros(samples, np.int16), rate=22_050)[:44] == wav_header(samples, 22_050)
    for shape in ((1, 1), (4, 1000), (4, 401), (120, 1401)):
        assert npy_of(np.zeros(shape, np.float16)).startswith(npy_header(*shape))
