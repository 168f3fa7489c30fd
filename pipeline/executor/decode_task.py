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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.job import ClipRecord, DecodeResult, DecodeTask
from pipeline.videos.fetch import at_hand
from shards.format.clip import ClipSpec
from shards.media.file import UnreadableMedia
from shards.storage import address

JPEG_QUALITY = 80
NO_ROOM = "no_room"  # no fault of the video's: the disk is full, and the run must stop
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class DecodeConfig:
    """What a worker needs to know once, for all videos."""

    root: str  # a folder or a URL; a video's path starts from it
    spool: Path  # sound waits here, not in memory; and videos from behind a URL
    spec: ClipSpec
    views: list[ResizeCrop]
    reading: DecodeSettings
    keep_frames: bool
    memory_gigabytes: float


def shield(memory_gigabytes: float) -> None:
    """Make this a decode process: it ends with its parent alone, and takes no more memory than it may."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the executor decides when to stop
    _die_with_parent()
    _limit_memory(memory_gigabytes)


def decode(
    task: DecodeTask, decoding: DecodeConfig, hand_over: Callable[[DecodedClip], None], touch: Callable[[], None]
) -> DecodeResult:
    """Hand over the clips of one video in order; `touch` is called for each packet read."""
    size, digest = -1, ""
    place, copy = address(decoding.root, task.path), decoding.spool / f"{task.number:09d}"
    try:
        with at_hand(place, copy, touch, decoding.reading.max_gigabytes * 1e9) as video:
            size, digest = video.bytes, video.sha256
            if task.sha256 is not None and digest != task.sha256:
                return DecodeResult("changed", f"sha256 is {digest or 'unknown'}, was {task.sha256}", size, digest)
            if task.times is not None:
                _relabel(task, video.path, decoding, hand_over, touch)
                return DecodeResult(bytes=size, sha256=digest, media_seconds=task.times[-1][-1])
            reader = VideoReader(video.path, decoding.spec, decoding.views, decoding.reading, touch)
            for clip in reader.clips():
                hand_over(clip)
            return DecodeResult(
                bytes=size,
                sha256=digest,
                media_seconds=reader.media_seconds,
                tail_seconds_cut=reader.account.left_out.get("tail", 0.0),
                decode_errors=reader.decode_errors,
                dropped=list(reader.dropped),
            )
    except UnreadableMedia as error:
        return DecodeResult(error.reason, error.detail, size, digest)
    except MemoryError:
        return DecodeResult("out_of_memory", f"needs more than {decoding.memory_gigabytes:g} GB", size, digest)
    except PermissionError as error:
        return DecodeResult("not_a_file", f"{error.strerror}", size, digest)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return DecodeResult(NO_ROOM, f"{error.filename or decoding.spool}: {error.strerror}", size, digest)


def _relabel(
    task: DecodeTask,
    path: Path,
    decoding: DecodeConfig,
    hand_over: Callable[[DecodedClip], None],
    touch: Callable[[], None],
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
        hand_over(DecodedClip(index, asked[0], 0.0, empty, stacked, asked, got))


def head_of(clip: DecodedClip, decoding: DecodeConfig) -> ClipRecord:
    frames = len(clip.got)
    return ClipRecord(
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
