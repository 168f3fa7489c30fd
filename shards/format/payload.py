"""The payload of one member, read from an open tar straight into a row of a batch: `members.decode` without the copies.

Headers are compared byte for byte with the only ones that `members` writes, so a wrong rate, length or class count
cannot pass. All functions raise DamagedExample, with the member's fault but without its name, which the reader knows.
"""

from __future__ import annotations

import io
import os
import struct
from functools import lru_cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from shards.format.members import WAV_HEADER_BYTES, DamagedExample, decode_array


def read_wav(descriptor: int, place: tuple[int, int], row: NDArray[np.int16], sample_rate: int) -> None:
    """Fill `row` int16 (samples,) with the sound of a wav member at `place` (offset, bytes)."""
    offset, size = place
    header = bytearray(WAV_HEADER_BYTES)
    _read(descriptor, [header, row.data], offset, size)
    if header != wav_header(len(row), sample_rate):
        raise DamagedExample(f"its wav header is not that of {len(row)} samples, mono, 16 bits, at {sample_rate} Hz")


def read_flac(descriptor: int, place: tuple[int, int], row: NDArray[np.int16], sample_rate: int) -> None:
    """Fill `row` int16 (samples,) with the sound of a flac member at `place` (offset, bytes)."""
    offset, size = place
    data = bytearray(size)
    _read(descriptor, [data], offset, size)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if (sound.channels, sound.samplerate, sound.frames) != (1, sample_rate, len(row)):
                raise DamagedExample(
                    f"its flac holds {sound.frames} samples, {sound.channels} channels at {sound.samplerate} Hz, "
                    f"the side file and manifest say {len(row)}, 1 at {sample_rate} Hz"
                )
            decoded = len(sound.read(dtype="int16", out=row))
    except soundfile.SoundFileError as error:
        raise DamagedExample(f"its flac cannot be decoded: {error}") from None
    if decoded != len(row):
        raise DamagedExample(f"its flac ends after {decoded} of {len(row)} samples")


READ_SOUND = {"wav": read_wav, "flac": read_flac}


def read_posterior(descriptor: int, place: tuple[int, int], rows: NDArray[np.float16]) -> None:
    """Fill `rows` float16 (windows, classes) from an npy member at `place` (offset, bytes)."""
    offset, size = place
    header = bytearray(size - rows.nbytes)
    _read(descriptor, [header, rows.data], offset, size)
    if header == npy_header(*rows.shape):
        return
    # Another writer may pad its header otherwise: then the careful way, which reads the header.
    try:
        array = decode_array(bytes(header) + rows.tobytes())
    except ValueError as error:
        raise DamagedExample(str(error)) from None
    if array.shape != rows.shape:
        raise DamagedExample(f"its posterior is {array.shape}, side file and manifest say {rows.shape}")


@lru_cache(maxsize=1024)
def wav_header(samples: int, sample_rate: int) -> bytes:
    """The 44 bytes before `samples` of mono 16-bit sound."""
    riff = struct.pack("<4sI4s", b"RIFF", WAV_HEADER_BYTES - 8 + 2 * samples, b"WAVE")
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return riff + layout + struct.pack("<4sI", b"data", 2 * samples)


@lru_cache(maxsize=1024)
def npy_header(windows: int, classes: int) -> bytes:
    """The bytes before a float16 array (windows, classes) in C order, npy version 1.0."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": (windows, classes)})
    return stream.getvalue()


def _read(descriptor: int, buffers: list[bytearray | memoryview], offset: int, size: int) -> None:
    found = os.preadv(descriptor, buffers, offset)
    if found != size:
        raise DamagedExample(f"the shard ends after {found} of its {size} bytes")
