"""Why a file gives no example: the reasons that rejects are counted by, and which of them an error is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

from av.error import FFmpegError

from shards.files import BLOCK_BYTES

Reason = Literal[
    "not_found",  # no such file, or a link that leads nowhere
    "not_a_file",  # a directory, FIFO, socket or device; opening one can hang
    "no_permission",
    "out_of_memory",
    "io_error",  # of a disk, a file system or a limit of the machine: EIO, ESTALE, too many open files
    "changed",  # while it was read, so that its hash is not that of what was read
    "unreachable",  # behind a URL that gave errors, several times
    "empty",  # zero bytes
    "not_media",  # FFmpeg knows no container in it: HTML, an mp4 without its index
    "unknown_codec",  # a stream is there, but its parameters are broken or no decoder fits
    "no_video",  # cover art does not count
    "no_audio",
    "too_large",  # more pixels a frame than reading.max_pixels, more bytes behind a URL than reading.max_gigabytes
    "too_short",  # sound and picture have less than reading.min_seconds in common
    "silent",  # every sample of every sound track is zero
    "no_frames",  # no clip whose frames could all be decoded near enough to the times asked for
    "damaged",  # the same, and the decoder complained
    "encrypted",  # it is marked so, and there is no key
]

# What may be the fault of the machine or of the network as well as the file's: tried once more before it is recorded.
# The last two befall a decode process: it ended, or made no progress.
TRANSIENT = frozenset({"out_of_memory", "io_error", "unreachable", "crashed", "stalled"})


class UnreadableMedia(Exception):
    """This file gives no example: `reason` is a short stable name to count by, `detail` says what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def unreadable(error: OSError) -> UnreadableMedia:
    """What an error of opening or reading a file says of it."""
    reason: Reason = "io_error"
    if isinstance(error, PermissionError):
        reason = "no_permission"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        reason = "not_found"
    elif error.errno in (errno.EISDIR, errno.ENXIO, errno.ENODEV):
        reason = "not_a_file"
    elif error.errno == errno.ENOMEM:
        reason = "out_of_memory"
    return UnreadableMedia(reason, str(error.strerror or error))


def require_regular_file(path: Path) -> None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMedia("not_a_file", "it is no regular file")
        if not status.st_size:
            raise UnreadableMedia("empty", "it has zero bytes")
        with open(path, "rb") as stream:
            stream.read(1)
    except OSError as error:
        raise unreadable(error) from error


def require_readable(path: Path, progress: Callable[[], None]) -> None:
    """Read the file through; `progress` is called on the way. Raises UnreadableMedia where the disk gives an error."""
    try:
        with open(path, "rb") as stream:
            while stream.read(BLOCK_BYTES):
                progress()
    except OSError as error:
        raise unreadable(error) from error


def refuse_out_of_memory(error: MemoryError) -> NoReturn:
    """FFmpeg found no memory, mostly for a size that the file lies about; Python's own lack of it passes through."""
    if isinstance(error, FFmpegError):
        raise UnreadableMedia("out_of_memory", "FFmpeg asks for more memory than it may have") from error
    raise error
