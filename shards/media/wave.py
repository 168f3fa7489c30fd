"""What the header of a WAV file claims of its sound's length, against the bytes that are there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.media.file import UnreadableMedia

UNKNOWN = 0x7FFF_0000  # sizes of 2 GB and more in a smaller file: written to a pipe, before it was known
UNKNOWN_64 = 2**62  # the same in RF64, whose files may be longer
SLACK_SECONDS = 0.01
MOST_CHUNKS = 1_000  # a gigabyte of zeros would be chunks without end


@dataclass(frozen=True)
class Shortfall:
    """The sound's length in seconds: by the header, and there."""

    promised: float
    found: float

    def __str__(self) -> str:
        return f"cut short: its header promises {self.promised:.2f} s of sound, the file has {self.found:.2f} s"


@dataclass(frozen=True)
class WavHeader:
    """What the header of a RIFF, RIFX, RF64 or BW64 file says of its data chunk; sizes in bytes."""

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


def read_header(path: Path) -> WavHeader | None:
    """None for a file that is no WAV file or has no data chunk. Raises OSError, and UnreadableMedia for RIFX."""
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        magic, form = stream.read(4), stream.read(8)[4:]
        if magic not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or form != b"WAVE":
            return None
        if magic == b"RIFX":
            raise UnreadableMedia("unknown_codec", "FFmpeg does not read big-endian WAV files (RIFX): convert it")
        rate, claimed_64 = 0, 0
        for name, begin, claimed in itertools.islice(_chunks(stream), MOST_CHUNKS):
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
                return WavHeader(magic, rate, begin, found, claimed if known or 0 < claimed <= found else None)
    return None


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and claimed bytes of each chunk; the stream stands at its first byte."""
    begin = stream.tell()
    while len(head := stream.read(8)) == 8:
        begin, size = begin + 8, int.from_bytes(head[4:], "little")
        yield head[:4], begin, size
        begin += size + size % 2  # chunks begin at even bytes
        stream.seek(begin)
