"""A decode worker: its own process, so that a decoder that hangs, bloats or crashes costs one video and nothing else.

It imports no torch. It talks to the executor over one pipe, and touches a clock for each packet that it reads.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_double
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.decoder.reader import RawClip, Reading, VideoReader, View, frames_at
from pipeline.executor.slots import Slots
from pipeline.videos.fetch import at_hand
from pipeline.videos.listing import address
from shards.format.clip import ClipSpec
from shards.media.waveform import UnreadableMedia

JPEG_QUALITY = 80
NO_ROOM = "no_room"  # no fault of the video's: the disk is full, and the run must stop
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Decoding:
    """What a worker needs to know once, for all videos."""

    root: str  # a folder or a URL; a video's path starts from it
    spool: Path  # sound waits here, not in memory; and videos from behind a URL
    spec: ClipSpec
    views: list[View]
    reading: Reading
    keep_frames: bool
    memory_gigabytes: float


@dataclass(frozen=True)
class Task:
    """One video to decode. For relabelling, `times` holds the frames' times of each of its clips: no sound then."""

    shard: str
    path: str
    key: str
    number: int  # position in the plan's order
    times: list[list[float]] | None = None
    sha256: str | None = None  # what the file must still be


@dataclass(frozen=True)
class ClipHead:
    """One decoded clip without its pictures (in a slot) and its sound (in the spool)."""

    index: int
    frames: int
    windows: int
    start: float
    seconds: float
    samples: int
    asked: list[float]
    got: list[float]
    still: bool
    jpegs: list[bytes]


@dataclass(frozen=True)
class Summary:
    """The end of a video: good, or rejected with a reason."""

    reason: str | None = None
    detail: str = ""
    bytes: int = -1
    sha256: str = ""
    media_seconds: float = 0.0
    tail_seconds_cut: float = 0.0
    decode_errors: int = 0
    dropped: list[str] = field(default_factory=list)


def crashed(exit_code: int | None) -> Summary:
    return Summary("crashed", f"the decoder's process ended with exit code {exit_code}")


def stalled(seconds: float) -> Summary:
    return Summary("stalled", f"no progress for {seconds:g} s")


def run_decoder(pipe: Connection, decoding: Decoding, slots_name: str, count: int, clock: c_double) -> None:
    """Loop of the process: a Task in; for each clip `want` out, a slot in, the ClipHead out; a Summary at the end."""
    shield(decoding.memory_gigabytes)
    slots = Slots.attach(slots_name, decoding.views, decoding.spec.frames, count)

    def touch() -> None:
        clock.value = time.monotonic()

    try:
        while True:
            task: Task = pipe.recv()
            touch()
            with open(spool_path(decoding.spool, task), "wb", buffering=0) as spool:
                hand_over = partial(_into_slot, decoding=decoding, pipe=pipe, slots=slots, spool=spool)
                summary = decode(task, decoding, hand_over, touch)
            pipe.send(summary)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the executor is gone, or has closed us
    finally:
        slots.close()


def spool_path(spool: Path, task: Task) -> Path:
    return spool / f"{task.number:09d}.pcm"


def shield(memory_gigabytes: float) -> None:
    """Make this a decode process: it ends with its parent alone, and takes no more memory than it may."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    _die_with_parent()
    _limit_memory(memory_gigabytes)


def decode(task: Task, decoding: Decoding, hand_over: Callable[[RawClip], None], touch: Callable[[], None]) -> Summary:
    """Hand over the clips of one video in order; `touch` is called for each packet read."""
    size, digest = -1, ""
    place, copy = address(decoding.root, task.path), decoding.spool / f"{task.number:09d}"
    try:
        with at_hand(place, copy, touch, decoding.reading.max_gigabytes * 1e9) as video:
            size, digest = video.bytes, video.sha256
            if task.sha256 is not None and digest != task.sha256:
                return Summary("changed", f"sha256 is {digest or 'unknown'}, was {task.sha256}", size, digest)
            if task.times is not None:
                _relabel(task, video.path, decoding, hand_over, touch)
                return Summary(bytes=size, sha256=digest, media_seconds=task.times[-1][-1])
            reader = VideoReader(video.path, decoding.spec, decoding.views, decoding.reading, touch)
            for clip in reader.clips():
                hand_over(clip)
            return Summary(
                bytes=size,
                sha256=digest,
                media_seconds=reader.media_seconds,
                tail_seconds_cut=reader.tail_seconds_cut,
                decode_errors=reader.decode_errors,
                dropped=list(reader.dropped),
            )
    except UnreadableMedia as error:
        return Summary(error.reason, error.detail, size, digest)
    except MemoryError:
        return Summary("out_of_memory", f"needs more than {decoding.memory_gigabytes:g} GB", size, digest)
    except PermissionError as error:
        return Summary("not_a_file", f"{error.strerror}", size, digest)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return Summary(NO_ROOM, f"{error.filename or decoding.spool}: {error.strerror}", size, digest)


def _relabel(
    task: Task, path: Path, decoding: Decoding, hand_over: Callable[[RawClip], None], touch: Callable[[], None]
) -> None:
    """Decode the frames that the stored times name, clip by clip."""
    assert task.times is not None
    times = [time_ for clip in task.times for time_ in clip]
    frames = frames_at(path, times, decoding.views, decoding.reading, touch)
    for index, asked in enumerate(task.times):
        got, pictures = [], []
        for _ in asked:
            time_got, views = next(frames)
            got.append(time_got)
            pictures.append(views)
        stacked = [np.stack([views[number] for views in pictures]) for number in range(len(decoding.views))]
        empty = np.zeros(0, np.int16)
        hand_over(RawClip(index, asked[0], 0.0, empty, stacked, asked, got))


def _into_slot(clip: RawClip, *, decoding: Decoding, pipe: Connection, slots: Slots, spool: FileIO) -> None:
    """Spool the sound, ask for a slot, wait until it is this clip's turn, fill it."""
    sound = memoryview(clip.waveform.tobytes())
    while sound:
        sound = sound[spool.write(sound) :]
    pipe.send("want")
    slot = pipe.recv()
    for target, pictures in zip(slots.pictures(slot, len(clip.got)), clip.pictures, strict=True):
        target[:] = pictures
    pipe.send(head_of(clip, decoding))


def head_of(clip: RawClip, decoding: Decoding) -> ClipHead:
    frames = len(clip.got)
    return ClipHead(
        index=clip.index,
        frames=frames,
        windows=frames // decoding.spec.frames_per_window,
        start=clip.start,
        seconds=clip.seconds,
        samples=len(clip.waveform),
        asked=clip.asked,
        got=clip.got,
        still=frames > 1 and bool((clip.pictures[0] == clip.pictures[0][:1]).all()),
        jpegs=list(_jpegs(clip.pictures[0])) if decoding.keep_frames else [],
    )


def _jpegs(pictures: NDArray[np.uint8]) -> Iterator[bytes]:
    for picture in pictures:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=JPEG_QUALITY)
        yield stream.getvalue()


def _limit_memory(gigabytes: float) -> None:
    """An allocation that takes more than this beyond what the worker starts with fails, as an error with a name."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        at_start = int(statm.read_text().split()[5]) * resource.getpagesize()  # data and stack
        limit = at_start + int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _die_with_parent() -> None:
    """A worker stuck in a decoder must not outlive a killed executor."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
