"""Encode and decode are mirrors; stock readers agree; what lies about itself is refused; a checksum finds damage."""

import io
import json
import zlib

import numpy as np
import pytest
import soundfile
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shards.format.example import ClipMeta, Example
from shards.format.members import BLOCK_BYTES, DamagedExample, checksum, decode, encode

RATE = 22_050


def example(key="a%2Emp4-00000", windows=2, samples=3000):
    random = np.random.default_rng(0)
    posteriors = random.dirichlet(np.ones(7), windows).astype(np.float16)
    meta = ClipMeta("a%2Emp4", "a.mp4", 10, "00", 0, 0.0, 1.0, [0.5] * windows, [0.48] * windows)
    waveform = random.integers(-(2**15), 2**15, samples).astype(np.int16)
    return Example(key, waveform, {"objects": posteriors, "scenes": posteriors[:, :3]}, meta, b"jpeg")


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_round_trip(audio):
    given = example()
    got = decode(given.key, encode(given, RATE, audio), RATE)
    assert np.array_equal(got.waveform, given.waveform)
    assert all(np.array_equal(got.posteriors[head], given.posteriors[head]) for head in ("objects", "scenes"))
    assert (got.meta, got.frames, got.key) == (given.meta, given.frames, given.key)


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_other_programs_read_the_members(audio):
    given = example()
    sample = encode(given, RATE, audio)
    waveform, rate = soundfile.read(io.BytesIO(sample[audio]), dtype="int16")
    assert rate == RATE and np.array_equal(waveform, given.waveform)
    assert np.array_equal(np.load(io.BytesIO(sample["objects.npy"]), allow_pickle=False), given.posteriors["objects"])
    assert json.loads(sample["json"])["path"] == "a.mp4"


@pytest.mark.parametrize(
    ("member", "spoil", "message"),
    [
        ("objects.npy", lambda data: data[:-2], "bytes follow"),
        ("objects.npy", lambda data: b"nonsense", "magic string"),
        ("wav", lambda data: data[:-100], "wav header says"),
        ("wav", lambda data: data[:20], None),
        ("wav", lambda data: b"", None),
        ("json", lambda data: b"{}", "missing"),
        ("json", lambda data: data[:-1], None),
        ("wav", None, "'wav'|'flac'"),
        ("json", None, "'json' is missing"),
    ],
)
def test_damage_is_named(member, spoil, message):
    sample = encode(example(), RATE)
    data = sample.pop(member)
    if spoil is not None:
        sample[member] = spoil(data)
    with pytest.raises(DamagedExample, match=message) as caught:
        decode("some-key", sample, RATE)
    assert "some-key" in str(caught.value)


def test_another_rate_is_refused():
    with pytest.raises(DamagedExample, match="22050 Hz instead of 1 at 16000"):
        decode("k", encode(example(), RATE), 16_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "a.b"}, "no dot"),
        ({"key": "../a"}, "no dot and no slash"),
        ({"waveform": np.zeros(3, np.float32)}, "int16"),
        ({"waveform": np.zeros(0, np.int16)}, "int16"),
        ({"posteriors": {"objects": np.zeros((2, 3))}}, "float16"),
        ({"posteriors": {"a": np.zeros((2, 3), np.float16), "b": np.zeros((1, 3), np.float16)}}, "disagree"),
    ],
)
def test_an_example_checks_itself(change, message):
    given = example()
    fields = {"key": given.key, "waveform": given.waveform, "posteriors": given.posteriors, "meta": given.meta}
    with pytest.raises(ValueError, match=message):
        Example(**fields | change)


@settings(derandomize=True, max_examples=60)
@for_all(st.data())
def test_any_example_comes_back_bit_by_bit(data):
    """Every length, rate, number of heads, windows and classes, every float16 (NaN and negative zero too), any text."""
    windows = data.draw(st.integers(1, 5))
    heads = data.draw(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(1, 40), max_size=3))
    waveform = data.draw(hnp.arrays(np.int16, st.integers(1, 5000)))
    posteriors = {
        head: data.draw(hnp.arrays(np.uint16, (windows, classes))).view(np.float16) for head, classes in heads.items()
    }
    times = data.draw(st.lists(st.floats(0, 1e6), min_size=windows, max_size=windows))
    meta = ClipMeta(data.draw(st.text()), data.draw(st.text()), 1, "00", 0, 0.0, 1.0, times, times)
    frames = data.draw(st.binary(max_size=50))
    rate, audio = data.draw(st.sampled_from([8_000, 22_050, 48_000])), data.draw(st.sampled_from(["wav", "flac"]))
    whole = Example("key-00000", waveform, posteriors, meta, frames)
    got = decode("key-00000", encode(whole, rate, audio), rate)
    assert got.waveform.tobytes() == waveform.tobytes()
    assert {head: array.tobytes() for head, array in got.posteriors.items()} == {
        head: array.tobytes() for head, array in posteriors.items()
    }
    assert (got.meta, got.frames) == (meta, frames)


def defined(data: bytes) -> int:
    """As the format says: each whole block's sum of 64-bit words, then the bytes left over, through CRC-32."""
    folded, whole = b"", len(data) // BLOCK_BYTES * BLOCK_BYTES
    for block in range(0, whole, BLOCK_BYTES):
        words = [int.from_bytes(data[place : place + 8], "little") for place in range(block, block + BLOCK_BYTES, 8)]
        folded += (sum(words) % 2**64).to_bytes(8, "little")
    return zlib.crc32(folded + data[whole:])


@pytest.mark.parametrize("count", [1, 7, BLOCK_BYTES // 2, BLOCK_BYTES // 2 + 3, 2 * BLOCK_BYTES + 4095])
def test_a_checksum_is_what_the_format_says(count: int) -> None:
    waveform = np.random.default_rng(count).integers(-(2**15), 2**15, count, dtype=np.int16)
    assert checksum(waveform) == defined(waveform.tobytes())
    assert checksum(waveform[1:]) == defined(waveform[1:].tobytes())  # not where words begin


def test_rows_and_layouts_do_not_matter_but_values_do() -> None:
    posterior = np.random.default_rng(0).random((4, 5000)).astype(np.float16)
    assert checksum(posterior) == checksum(posterior.reshape(-1)) == checksum(np.asfortranarray(posterior))
    assert checksum(posterior) != checksum(posterior[::-1])
    assert checksum(np.broadcast_to(posterior[0], (4, 5000))) == checksum(np.stack([posterior[0]] * 4))


SOUND: NDArray[np.int16] = np.random.default_rng(1).integers(-99, 99, 3 * BLOCK_BYTES, dtype=np.int16)


@settings(derandomize=True, max_examples=300)
@for_all(st.integers(0, SOUND.nbytes - 1), st.integers(0, 7))
def test_every_flipped_bit_is_found(place: int, bit: int) -> None:
    damaged = bytearray(SOUND.tobytes())
    damaged[place] ^= 1 << bit
    assert checksum(np.frombuffer(damaged, np.int16)) != checksum(SOUND)


@settings(derandomize=True, max_examples=200)
@for_all(st.integers(0, SOUND.nbytes // 512 - 2), st.integers(1, 40), st.sampled_from(["zeros", "again", "swapped"]))
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
