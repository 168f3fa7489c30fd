"""The checksum against its definition, written out once more in plain Python; and what it has to find."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.format.codec import BLOCK_BYTES, checksum


def defined(data: bytes) -> int:
    """As the format says: each whole block's sum of 64-bit words, then the bytes left over, through CRC-32."""
    folded, whole = b"", len(data) // BLOCK_BYTES * BLOCK_BYTES
    for block in range(0, whole, BLOCK_BYTES):
        words = [int.from_bytes(data[place : place + 8], "little") for place in range(block, block + BLOCK_BYTES, 8)]
        folded += (sum(words) % 2**64).to_bytes(8, "little")
    return zlib.crc32(folded + data[whole:])


@pytest.mark.parametrize("count", [1, 7, BLOCK_BYTES // 2, BLOCK_BYTES // 2 + 3, 2 * BLOCK_BYTES + 4095])
def test_it_is_what_the_format_says(count: int) -> None:
    waveform = np.random.default_rng(count).integers(-(2**15), 2**15, count, dtype=np.int16)
    assert checksum(waveform) == defined(waveform.tobytes())
    assert checksum(waveform[1:]) == defined(waveform[1:].tobytes())  # not where words begin


def test_rows_and_layouts_do_not_matter_but_values_do() -> None:
    posterior = np.random.default_rng(0).random((4, 5000)).astype(np.float16)
    assert checksum(posterior) == checksum(posterior.reshape(-1)) == checksum(np.asfortranarray(posterior))
    assert checksum(posterior) != checksum(posterior[::-1])
    assert checksum(np.broadcast_to(posterior[0], (4, 5000))) == checksum(np.stack([posterior[0]] * 4))


SOUND: NDArray[np.int16] = np.random.default_rng(1).integers(-99, 99, 3 * BLOCK_BYTES, dtype=np.int16)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.integers(0, SOUND.nbytes - 1), st.integers(0, 7))
def test_every_flipped_bit_is_found(place: int, bit: int) -> None:
    damaged = bytearray(SOUND.tobytes())
    damaged[place] ^= 1 << bit
    assert checksum(np.frombuffer(damaged, np.int16)) != checksum(SOUND)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.integers(0, SOUND.nbytes // 512 - 2), st.integers(1, 40), st.sampled_from(["zeros", "again", "swapped"]))
def test_lost_repeated_and_exchanged_sectors_are_found(first: int, count: int, kind: str) -> None:
    """A sector has 512 bytes. Exchanged are ones of different blocks: within a block the sum would not tell."""
    data = SOUND.tobytes()
    begin, end = 512 * first, min(512 * (first + count), len(data) - 512)
    if kind == "zeros":
        damaged = data[:begin] + bytes(end - begin) + data[end:]
    elif kind == "again":
        damaged = data[:begin] + (data[end : end + 512] * count)[: end - begin] + data[end:]
    else:
        half = len(data) // 2
        damaged = data[half:] + data[:half]
    assert (checksum(np.frombuffer(damaged, np.int16)) != checksum(SOUND)) == (damaged != data)
