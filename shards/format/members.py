"""One example as members of a tar, and back: `key.wav` or `key.flac`, `key.<head>.npy`, `key.json`, `key.frames.jpg`.

Beside the bytes of a member stands the checksum of its values, which the side file keeps. Nothing here executes what it
reads: arrays are parsed without pickle, and a header that promises more than its member holds is refused before
anything is allocated.
"""

from __future__ import annotations

import io
import wave
import zlib
from collections.abc import Mapping
from tokenize import TokenError

import numpy as np
import soundfile
from numpy.typing import NDArray

from shards.format.example import ClipMeta, EncodedExample, Example, SoundFacts
from shards.media.levels import levels

FRAMES = "frames.jpg"  # one member for every clip: readers want the same extensions in each
WAV_HEADER_BYTES = 44  # the canonical RIFF header that `wave` writes; the samples follow as they lie in memory
LONGEST_SECONDS = 3600  # of a clip; more is not believed of a header, and not allocated
BLOCK_BYTES = 16_384  # summed by themselves in a checksum


class DamagedExample(ValueError):
    """A member that is not what its name says; the message names key and member."""


def encode(example: Example, sample_rate: int, audio: str = "wav") -> dict[str, bytes]:
    """The example's members ({extension: bytes}). `audio` is `wav` (16-bit PCM) or `flac`."""
    return members_of(with_encoded_sound(example, sample_rate, audio), audio)


def with_encoded_sound(example: Example, sample_rate: int, audio: str) -> EncodedExample:
    sound, facts = encode_sound(example.waveform, sample_rate, audio)
    return EncodedExample(example.key, sound, facts, example.posteriors, example.meta, example.frames)


def encode_sound(waveform: NDArray[np.int16], sample_rate: int, audio: str) -> tuple[bytes, SoundFacts]:
    """The member of a clip's sound, int16 (samples,), and what the shard says of it elsewhere."""
    sound = _encode_waveform(waveform, sample_rate, audio)
    return sound, SoundFacts(len(waveform), checksum(waveform), *levels(waveform))


def members_of(example: EncodedExample, audio: str) -> dict[str, bytes]:
    """{extension: bytes}."""
    members = {audio: example.sound} | encode_labels(example.posteriors)
    if example.frames:
        members[FRAMES] = example.frames
    return members | {"json": example.meta.to_json().encode()}


def encode_labels(posteriors: Mapping[str, NDArray[np.float16]]) -> dict[str, bytes]:
    """The members of the posteriors alone: all that another teacher set adds to a clip."""
    return {f"{head}.npy": _encode_array(posterior) for head, posterior in posteriors.items()}


def decode(key: str, members: Mapping[str, bytes], sample_rate: int) -> Example:
    """The example back from its members ({extension: bytes}). Raises DamagedExample."""
    audio = "wav" if "wav" in members else "flac"
    try:
        return Example(
            key=key,
            waveform=_decode_waveform(members[audio], sample_rate, audio),
            posteriors={
                name.removesuffix(".npy"): decode_array(members[name]) for name in members if name.endswith(".npy")
            },
            meta=ClipMeta.of_json(members["json"]),
            frames=members.get(FRAMES, b""),
        )
    except KeyError as error:
        raise DamagedExample(f"{key}: member {error} is missing among {sorted(members)}") from None
    except (
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        RecursionError,
        wave.Error,
        soundfile.SoundFileError,
    ) as error:
        raise DamagedExample(f"{key}: {error}") from None


def decode_array(data: bytes | memoryview) -> NDArray[np.float16]:
    """A `.npy` member as a read-only view of its bytes. Raises ValueError where header and length disagree."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"npy version {version} instead of (1, 0)")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, RecursionError, MemoryError, SyntaxError, TokenError) as error:  # Python's parser reads it
        raise ValueError(f"npy header cannot be read: {type(error).__name__}") from None
    start = stream.tell()
    expected = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if dtype != np.float16 or fortran_order or len(shape) != 2 or min(shape) < 0 or expected != len(data) - start:
        raise ValueError(f"npy header says {dtype} {shape}, but {len(data) - start} bytes follow")
    return np.frombuffer(data, np.float16, offset=start).reshape(shape)


def checksum(array: NDArray[np.generic]) -> int:
    """A CRC-32 of an array's values, which are little-endian and in C order, whatever the member's header looks like.

    The CRC is taken of one number for each whole block, the sum of its 64-bit little-endian words modulo 2^64, and then
    of the bytes left over. Summing first makes it several times faster than a CRC of all bytes.
    """
    array = np.ascontiguousarray(array)
    if array.nbytes < BLOCK_BYTES:
        return zlib.crc32(array.data)
    data = array.reshape(-1).view(np.uint8)
    whole = len(data) // BLOCK_BYTES * BLOCK_BYTES
    folded = data[:whole].view("<u8").reshape(-1, BLOCK_BYTES // 8).sum(axis=1)
    return zlib.crc32(data[whole:].data, zlib.crc32(folded))


def _encode_array(array: NDArray[np.float16]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _encode_waveform(waveform: NDArray[np.int16], sample_rate: int, audio: str) -> bytes:
    stream = io.BytesIO()
    if audio == "flac":
        soundfile.write(stream, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    else:
        with wave.open(stream, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(sample_rate)
            writer.writeframes(waveform.astype("<i2", copy=False).tobytes())
    return stream.getvalue()


def _decode_waveform(data: bytes, sample_rate: int, audio: str) -> NDArray[np.int16]:
    waveform: NDArray[np.int16]
    if audio == "flac":
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate, channels = sound.samplerate, sound.channels
            if sound.frames * channels > LONGEST_SECONDS * sample_rate:
                raise ValueError(f"flac header says {sound.frames} samples, {channels} channels: no clip is that long")
            waveform = sound.read(dtype="int16")
    else:
        with wave.open(io.BytesIO(data)) as reader:
            rate, channels = reader.getframerate(), reader.getnchannels()
            if reader.getsampwidth() != 2:
                raise ValueError(f"{8 * reader.getsampwidth()}-bit sound instead of 16-bit")
            waveform = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
            if len(waveform) != reader.getnframes() * channels:
                raise ValueError(f"wav header says {reader.getnframes()} samples, {len(waveform)} follow")
    if channels != 1 or rate != sample_rate:
        raise ValueError(f"{channels} channels at {rate} Hz instead of 1 at {sample_rate}")
    return waveform
