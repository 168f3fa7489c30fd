"""One video decoded: its clips in order, then a result, which is good or says why the video is rejected.

It runs in a process of its own (`decode_worker.py`, `cluster/child.py`) and imports no torch.
"""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.job import ClipMembers, ClipRecord, DecodeResult, DecodeTask
from pipeline.videos.fetch import at_hand
from shards.files import own_folder
from shards.format.clip import ClipSpec
from shards.format.members import encode_sound
from shards.media.rejects import UnreadableMedia
from shards.storage import address

JPEG_QUALITY = 80
NO_ROOM = "no_room"  # no fault of the video's: the disk is full, and the run must stop
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class DecodeConfig:
    """How videos are decoded: the same for all of a run."""

    root: str  # a folder or a URL; a video's path starts from it
    spool: Path  # clips wait here, not in memory; and videos from behind a URL
    clip: ClipSpec
    crops: list[ResizeCrop]  # pictures are made in each of these geometries
    reading: DecodeSettings
    audio: str | None  # wav or flac; None: no sound is kept
    keep_frames: bool
    memory_gigabytes: float

    def spooled_bytes(self, clip: ClipRecord) -> int:
        """What a clip takes of the spool: its pictures and its members."""
        pictures = len(clip.got) * sum(geometry.crop**2 * 3 for geometry in self.crops)
        return pictures + clip.sound_bytes + clip.frames_bytes


def decode(
    task: DecodeTask, config: DecodeConfig, on_clip: Callable[[DecodedClip], None], touch: Callable[[], None]
) -> DecodeResult:
    """Call `on_clip` with the clips of one video in order, and `touch` for each packet read."""
    size, digest, clips = -1, "", 0
    place, copy = address(config.root, task.path), config.spool / f"{task.number:09d}"
    try:
        with at_hand(place, copy, touch, config.reading.max_gigabytes * 1e9) as video:
            size, digest = video.bytes, video.sha256
            if task.sha256 is not None and digest and digest != task.sha256:  # else its reader says what it is
                return DecodeResult("changed", f"sha256 is {digest}, was {task.sha256}", size, digest)
            if task.times is not None:
                for clip in clips_at(task.times, video.path, config, touch):
                    on_clip(clip)
                return DecodeResult(None, "", size, digest, len(task.times), media_seconds=task.times[-1][-1])
            reader = VideoReader(video.path, config.clip, config.crops, config.reading, touch, task.start, task.end)
            for clip in reader.clips():
                on_clip(clip)
                clips += 1
            return DecodeResult(
                bytes=size,
                sha256=digest,
                clips=clips,
                media_seconds=reader.media_seconds,
                media=reader.account,
                decode_errors=reader.decode_errors,
                dropped=list(reader.dropped),
            )
    except UnreadableMedia as error:
        return DecodeResult(error.reason, error.detail, size, digest)
    except MemoryError:
        return DecodeResult("out_of_memory", f"needs more than {config.memory_gigabytes:g} GB", size, digest)
    except ConnectionError:  # of the executor's pipe
        raise
    except OSError as error:  # of the spool: what is wrong with the video has a reason by now
        reason = NO_ROOM if error.errno in FULL else "io_error"
        return DecodeResult(reason, f"{error.filename or config.spool}: {error.strerror}", size, digest)


def spooling(place: Path | None, least_bytes: float = 0) -> AbstractContextManager[Path]:
    """A folder of this process's own in the setting `spool`, for DecodeConfig. Raises UserError."""
    place = place or Path(tempfile.gettempdir())
    return own_folder(place, "soundnet-spool", least_bytes=least_bytes, instead="spool=another/folder")


def clips_at(
    times: list[list[float]], path: Path, config: DecodeConfig, touch: Callable[[], None]
) -> Iterator[DecodedClip]:
    """For relabelling: clips without sound, of the frames at these times of each clip. Raises UnreadableMedia."""
    frames = frames_at(path, [time for clip in times for time in clip], config.crops, config.reading, touch)
    for index, asked in enumerate(times):
        got, pictures = zip(*(next(frames) for _ in asked), strict=True)
        stacked = [np.stack(of_crop) for of_crop in zip(*pictures, strict=True)]
        yield DecodedClip(index, asked[0], 0.0, np.zeros(0, np.int16), stacked, asked, list(got))


def encode_clip(clip: DecodedClip, config: DecodeConfig) -> tuple[ClipRecord, ClipMembers]:
    """What is kept of a clip beside its pictures. Its frames, where they are kept, are in the first geometry."""
    frames = clip.pictures[0]  # (frames, crop, crop, 3)
    sound, facts = b"", None
    if config.audio is not None:
        sound, facts = encode_sound(clip.waveform, config.clip.sample_rate, config.audio)
    strip = io.BytesIO()
    if config.keep_frames:
        Image.fromarray(np.concatenate(frames, axis=1)).save(strip, "JPEG", quality=JPEG_QUALITY)
    members = ClipMembers(sound, strip.getvalue())
    record = ClipRecord(
        index=clip.index,
        start=clip.start,
        seconds=clip.seconds,
        asked=clip.asked,
        got=clip.got,
        still=len(frames) > 1 and bool((frames == frames[:1]).all()),
        sound=facts,
        sound_bytes=len(members.sound),
        frames_bytes=len(members.frames),
    )
    return record, members
