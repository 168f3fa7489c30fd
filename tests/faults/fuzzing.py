"""`python -m tests.faults.fuzzing VIDEO COUNT SCRATCH`: read mutations of a video under limits, and say what each gave.

A line a mutation: its number, its kind, and `N clips` or a reason. The mutations follow from their numbers alone.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.rejects import UnreadableMedia

MEMORY_BYTES = 2 * 10**9  # what a decode worker may have, by default
CPU_SECONDS = 300  # for all mutations of a video
CLIPS = 3  # that are read of each

Random = np.random.Generator


def flip_bits(data: bytearray, random: Random) -> None:
    for place in random.integers(0, len(data), random.integers(1, 200)):
        data[place] ^= 1 << int(random.integers(8))


def flip_bits_of_the_head(data: bytearray, random: Random) -> None:
    """Where containers keep what they declare."""
    for place in random.integers(0, min(len(data), 4096), random.integers(1, 20)):
        data[place] ^= 1 << int(random.integers(8))


def flip_bits_of_the_end(data: bytearray, random: Random) -> None:
    """Where MP4 keeps its index."""
    for place in random.integers(max(0, len(data) - 4096), len(data), random.integers(1, 20)):
        data[place] ^= 1 << int(random.integers(8))


def cut_short(data: bytearray, random: Random) -> None:
    del data[int(random.integers(1, len(data))) :]


def zero_a_run(data: bytearray, random: Random) -> None:
    start, length = int(random.integers(len(data))), int(random.integers(1, 1 << 16))
    data[start : start + length] = bytes(len(data[start : start + length]))


def repeat_a_block(data: bytearray, random: Random) -> None:
    start, length = int(random.integers(len(data))), int(random.integers(1, 1 << 16))
    data[start:start] = data[start : start + length]


def drop_a_block(data: bytearray, random: Random) -> None:
    start, length = int(random.integers(len(data))), int(random.integers(1, 1 << 16))
    del data[start : start + length]


def set_to_the_utmost(data: bytearray, random: Random) -> None:
    """Four bytes of a number that something is declared by."""
    start = int(random.integers(max(1, len(data) - 4)))
    data[start : start + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00"][int(random.integers(3))]


KINDS: list[Callable[[bytearray, Random], None]] = [
    flip_bits,
    flip_bits_of_the_head,
    flip_bits_of_the_end,
    cut_short,
    zero_a_run,
    repeat_a_block,
    drop_a_block,
    set_to_the_utmost,
]


def outcome(path: Path) -> str:
    """What reading gives; any other error is raised."""
    spec = ClipSpec(seconds=2.0, windows=2)
    try:
        clips = list(
            islice(VideoReader(path, spec, [ResizeCrop(48, 48)], DecodeSettings(), lambda: None).clips(), CLIPS)
        )
    except UnreadableMedia as error:
        return error.reason
    for clip in clips:
        assert len(clip.waveform) <= spec.samples and clip.pictures[0].shape[1:] == (48, 48, 3)
    return f"{len(clips)} clips"


def main() -> None:
    video, count, scratch = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    original = video.read_bytes()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        data = bytearray(original)
        kind(data, np.random.default_rng(number))
        path = scratch / f"mutated{video.suffix}"
        path.write_bytes(data)
        print(number, kind.__name__, outcome(path), flush=True)


if __name__ == "__main__":
    main()
