"""What headers of uncompressed sound (WAV, AIFF, AU, Sony Wave64) claim of its length, against what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from shards.media.rejects import UnreadableMedia, require_regular_file

UNKNOWN = 0x7EFF_0000  # sizes of 2 GB and more in a smaller file: written to a pipe, before it was known
UNKNOWN_64 = 2**62  # the same of 64 bits, whose files may be longer
SLACK_SECONDS = 0.01
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # a sample, by encoding
AIFC_PLAIN = (b"NONE", b"twos", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32", b"raw ")
MOST_CHUNKS = 1_000  # a gigabyte of zeros would be chunks without end


@dataclass(frozen=True)
class Shortfall:
    """The sound's length in seconds: by the header, and there."""

    promised: float
    found: float

    def __str__(self) -> str:
        return f"cut short: its header promises {self.promised:.2f} s of sound, the file has {self.found:.2f} s"


@dataclass(frozen=True)
class WaveHeader:
    """What a header says of the file's sound; sizes in bytes."""

    magic: bytes
    rate: int  # bytes a second; 0 where it is not said
    begin: int  # of the data
    found: int  # data up to the file's end
    claimed: int | None  # None where the length was not known when it was written

    @property
    def shortfall(self) -> Shortfall | None:
        """None for a file that is whole or claims no length. FFmpeg reads what is there.

        Only the claim of the data chunk counts: that of the whole file is wrong in many that are whole.
        """
        if self.claimed is None or not self.rate:
            return None
        # a claim that counts the header too is a habit of writers; no sound is missing
        if self.claimed - self.found <= max(self.begin + 8, SLACK_SECONDS * self.rate):
            return None
        return Shortfall(self.claimed / self.rate, self.found / self.rate)

    @property
    def options(self) -> dict[str, str]:
        """For FFmpeg, which takes a length that is not known for none in RF64."""
        return {"ignore_length": "1"} if self.claimed is None and self.magic in (b"RF64", b"BW64") else {}


def read_header(path: Path) -> WaveHeader | None:
    """None for a file of another kind, or without sound. Raises UnreadableMedia, also for what FFmpeg reads wrongly."""
    require_regular_file(path)
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        start = stream.read(12)
        magic, form = start[:4], start[8:]
        if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
            return _riff(stream, size, magic)
        if magic == b"FORM" and form in (b"AIFF", b"AIFC"):
            return _aiff(stream, size, form)
        if magic == b".snd":
            return _au(stream, size)
        if magic == b"riff" and (start + stream.read(28))[24:28] == b"wave":
            return _w64(stream, size)
    return None


def _riff(stream: BinaryIO, size: int, magic: bytes) -> WaveHeader | None:
    if magic == b"RIFX":
        raise UnreadableMedia("unknown_codec", "FFmpeg does not read big-endian WAV files (RIFX): convert it")
    rate, claimed_64 = 0, 0
    chunks = _chunks(stream, "little")
    for name, begin, claimed in chunks:
        if name == b"ds64":
            claimed_64 = int.from_bytes(stream.read(16)[8:], "little")
        elif name == b"fmt ":
            rate = int.from_bytes(stream.read(12)[8:], "little")
        elif name == b"data":
            if magic in (b"RF64", b"BW64") and claimed == 2**32 - 1:
                known = 0 < claimed_64 < UNKNOWN_64
                claimed = claimed_64
            else:
                known = 0 < claimed < UNKNOWN
            found = size - begin
            if any(other == b"data" for other, _, _ in chunks):
                raise UnreadableMedia("damaged", "it has several data chunks, of which FFmpeg reads one")
            return WaveHeader(magic, rate, begin, found, claimed if known or 0 < claimed <= found else None)
    return None


def _aiff(stream: BinaryIO, size: int, form: bytes) -> WaveHeader | None:
    rate = 0
    for name, begin, claimed in _chunks(stream, "big"):
        if name == b"COMM":
            common = stream.read(22)
            exponent, mantissa = int.from_bytes(common[8:10], "big"), int.from_bytes(common[10:18], "big")
            bits = int.from_bytes(common[:2], "big") * int.from_bytes(common[6:8], "big")  # of all channels
            hertz = mantissa >> max(16383 + 63 - exponent, 0)  # extended precision, IEEE 754
            rate = bits // 8 * hertz if form == b"AIFF" or common[18:] in AIFC_PLAIN else 0
        elif name == b"SSND":
            _require_known(claimed > 8)
            return _claiming(b"FORM", rate, begin + 8, size, claimed - 8)
    return None


def _au(stream: BinaryIO, size: int) -> WaveHeader:
    stream.seek(4)
    begin, claimed, encoding, hertz, channels = (int.from_bytes(stream.read(4), "big") for _ in range(5))
    _require_known(claimed > 0)
    return _claiming(b".snd", AU_BYTES.get(encoding, 0) * hertz * channels, begin, size, claimed)


def _w64(stream: BinaryIO, size: int) -> WaveHeader | None:
    rate = 0
    for name, begin, claimed in _chunks(stream, "little", name_bytes=16, size_bytes=8):
        if name.startswith(b"fmt "):
            rate = int.from_bytes(stream.read(12)[8:], "little")
        elif name.startswith(b"data"):
            _require_known(0 < claimed < UNKNOWN_64)
            return _claiming(b"riff", rate, begin, size, claimed)
    return None


def _claiming(magic: bytes, rate: int, begin: int, size: int, claimed: int) -> WaveHeader:
    found = size - begin
    known = claimed < UNKNOWN or (magic == b"riff" and claimed < UNKNOWN_64)
    return WaveHeader(magic, rate, begin, found, claimed if known or claimed <= found else None)


def _require_known(known: bool) -> None:
    """WAV excepted, FFmpeg refuses a length that was never written."""
    if not known:
        raise UnreadableMedia(
            "damaged", "its header does not say how long its sound is: write it to a file, not through a pipe"
        )


def _chunks(
    stream: BinaryIO, order: Literal["little", "big"], *, name_bytes: int = 4, size_bytes: int = 4
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and claimed bytes of each chunk; the stream stands at its first byte.

    Sizes of 8 bytes, as in Wave64, count the chunk's head, and such chunks begin at multiples of 8, others of 2.
    """
    begin, head_bytes, even = stream.tell(), name_bytes + size_bytes, 8 if size_bytes == 8 else 2
    for _ in range(MOST_CHUNKS):
        head = stream.read(head_bytes)
        if len(head) < head_bytes:
            return
        size = int.from_bytes(head[name_bytes:], order) - (head_bytes if size_bytes == 8 else 0)
        begin += head_bytes
        yield head[:name_bytes], begin, size
        if size < 0:
            return
        begin += size + -size % even
        stream.seek(begin)
