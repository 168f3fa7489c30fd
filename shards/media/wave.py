"""What the header of a WAV file claims of its sound's length, against the bytes that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

UNKNOWN = (0x7FFF_0000, 2**32)  # sizes of 2 GB and more in a smaller file: written to a pipe, before it was known
UNKNOWN_64 = 2**62  # the same in RF64, whose files may be longer
SLACK_SECONDS = 0.01


@dataclass(frozen=True)
class Shortfall:
    """The sound's length in seconds: by the header, and there."""

    promised: float
    found: float

    def __str__(self) -> str:
        return f"cut short: its header promises {self.promised:.2f} s of sound, the file has {self.found:.2f} s"


def shortfall(path: Path) -> Shortfall | None:
    """None for a WAV file (RIFF, RIFX, RF64, BW64) that is whole or does not claim a length, and for any other file.

    Only the claim of the data chunk counts: that of the whole file is wrong in many that are whole. FFmpeg reads what
    is there. Raises OSError.
    """
    rate, claimed_64 = 0, 0
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        order: Literal["little", "big"] = "big" if stream.read(4) == b"RIFX" else "little"
        stream.seek(0)
        if stream.read(4) not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or stream.read(8)[4:] != b"WAVE":
            return None
        for name, begin, claimed in _chunks(stream, order):
            if name == b"ds64":
                claimed_64 = int.from_bytes(stream.read(16)[8:], order)
            elif name == b"fmt ":
                rate = int.from_bytes(stream.read(12)[8:], order)  # bytes a second
            elif name == b"data":
                found = size - begin
                sixty_four = claimed_64 and claimed == 2**32 - 1
                claimed = claimed_64 if sixty_four else claimed
                unknown = claimed >= UNKNOWN_64 if sixty_four else UNKNOWN[0] <= claimed < UNKNOWN[1]
                # a claim that counts the header too is a habit of writers; no sound is missing
                if unknown or not rate or claimed - found <= max(begin + 8, SLACK_SECONDS * rate):
                    return None
                return Shortfall(claimed / rate, found / rate)
    return None


def _chunks(stream: BinaryIO, order: Literal["little", "big"]) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and claimed bytes of each chunk; the stream stands at its first byte."""
    begin = stream.tell()
    while len(head := stream.read(8)) == 8:
        begin, size = begin + 8, int.from_bytes(head[4:], order)
        yield head[:4], begin, size
        begin += size + size % 2  # chunks begin at even bytes
        stream.seek(begin)
