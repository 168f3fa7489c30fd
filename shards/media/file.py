"""A media file that may be anything: opened, looked through and demuxed without being trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, TypeAlias, TypeVar

import av
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

MEDIA_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
)
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma")
RECORDING_SUFFIXES = frozenset({*SOUND_SUFFIXES, *MEDIA_SUFFIXES})  # where the sound is what matters

Reason = Literal[
    "not_found",  # no such file, or a link that leads nowhere
    "not_a_file",  # a directory, FIFO, socket or device; opening one can hang
    "no_permission",
    "out_of_memory",
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
]

HOLE_SECONDS = 600.0  # time stamps that leap further ahead, or a stream lagging further behind, end the reading there
LEAP_SECONDS = 5.0  # a time stamp that far ahead of the one before is believed when the next one bears it out
MAX_READ_FAILURES = 16  # in a row: a failing disk would otherwise be asked for ever
MAX_PIXELS = 8192 * 4320

AnyStream = TypeVar("AnyStream", AudioStream, VideoStream)
Frame = TypeVar("Frame", av.AudioFrame, av.VideoFrame)
AnyPacket: TypeAlias = "Packet[Stream]"


class UnreadableMedia(Exception):
    """This file gives no example: `reason` is a short stable name to count by, `detail` says what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class MediaFile:
    """One open file, read from its beginning; `errors` counts what could not be demuxed or decoded.

    Raises UnreadableMedia when opened or asked for a stream that is not there.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.errors = 0
        self._path, self._max_pixels = path, max_pixels
        _require_regular_file(path)
        try:
            self.container = av.open(
                f"file:{path}",  # a name such as `http:x.mp4` is no address
                metadata_errors="replace",  # UCF101 has metadata that is not UTF-8
                container_options={"protocol_whitelist": "file"},  # a playlist may not reach the network
            )
        except MemoryError as error:
            _refuse_out_of_memory(error)
        except (FFmpegError, OSError, ValueError) as error:
            message = getattr(error, "strerror", None) or type(error).__name__
            raise UnreadableMedia("not_media", f"FFmpeg cannot open it: {message}") from error

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    @property
    def has_times(self) -> bool:
        """AVI stores no presentation times; what FFmpeg then puts on packets is a guess."""
        return self.container.format.name != "avi"

    @property
    def is_indexed(self) -> bool:
        """MP4 and its kin list every frame, so that a long time between two is meant; elsewhere it may be a hole."""
        return "mp4" in self.container.format.name

    def video_stream(self) -> VideoStream:
        """The moving picture: no cover art or thumbnails; the default one of several."""
        aside = Disposition.attached_pic | Disposition.timed_thumbnails
        moving = [stream for stream in self.container.streams.video if not stream.disposition & aside]
        if not moving:
            raise UnreadableMedia("no_video", "there is no moving picture in it")
        stream = _usable(moving)[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > self._max_pixels:
            raise UnreadableMedia("too_large", f"{width}x{height} is more than reading.max_pixels={self._max_pixels}")
        # for a stream that grows on the way; doubled, since the decoder counts the margins of its buffers too
        stream.codec_context.options = {"max_pixels": str(2 * self._max_pixels)}
        return stream

    def audio_streams(self) -> list[AudioStream]:
        """All sound tracks that can be decoded, the default one first."""
        tracks = list(self.container.streams.audio)
        if not tracks:
            raise UnreadableMedia("no_audio", "there is no sound track in it")
        return _usable(tracks)

    def audio_stream(self, index: int | None) -> AudioStream:
        """The sound track with this stream index, or the default one."""
        return next(stream for stream in self.audio_streams() if index in (None, stream.index))

    def time_base(self, stream: Stream) -> tuple[int, int]:
        """Seconds per unit of the stream's time stamps: numerator and denominator, for floats that compare equal."""
        base = stream.time_base or Fraction(1, 1)
        return base.numerator, base.denominator

    def edit_shift(self, stream: Stream, first: AnyPacket) -> float:
        """Seconds that FFmpeg moves a stream whose first packets an edit list hides.

        It lets the first frame behind the cut begin at the cut, up to a frame too early. Read without the hiding, the
        same packet bears its true time.
        """
        if not first.is_discard:
            return 0.0
        with (
            suppress(FFmpegError),
            av.open(f"file:{self._path}", metadata_errors="replace", options={"advanced_editlist": "0"}) as plain,
        ):
            for packet in plain.demux(plain.streams[stream.index]):
                if packet.pos == first.pos and packet.pts is not None and first.pts is not None:
                    return float((packet.pts - first.pts) * packet.time_base)
        return 0.0

    def packets(self, *streams: Stream) -> Iterator[AnyPacket]:
        """Packets of these streams in file order, without those that cannot be read or bear a broken time stamp."""
        units = {stream.index: float(stream.time_base or 1) for stream in streams}  # seconds
        latest: dict[int, float] = {}
        doubtful: dict[int, tuple[float, AnyPacket]] = {}  # leapt ahead; good if the next of its stream goes on there
        for packet in self._demuxed(streams):
            index, stamp = packet.stream_index, packet.pts if packet.dts is None else packet.dts  # dts only ever rises
            if stamp is None:
                yield packet
                continue
            seconds = stamp * units[index]
            if index in doubtful:
                earlier_seconds, earlier = doubtful.pop(index)
                if abs(seconds - earlier_seconds) < abs(seconds - latest[index]):
                    latest[index] = earlier_seconds
                    yield earlier
                else:
                    self.errors += 1
            before = latest.get(index, seconds)
            if seconds - before > LEAP_SECONDS:
                doubtful[index] = seconds, packet
            else:
                latest[index] = max(seconds, before)
                yield packet
        yield from (packet for _, packet in doubtful.values())

    def _demuxed(self, streams: tuple[Stream, ...]) -> Iterator[AnyPacket]:
        wanted = {stream.index for stream in streams}
        for stream in self.container.streams:
            stream.discard = Discard.default if stream.index in wanted else Discard.all
        failures = 0
        while failures < MAX_READ_FAILURES:
            try:
                for packet in self.container.demux(streams):
                    failures = 0
                    if packet.size:  # an empty packet would tell the decoder that the stream has ended
                        yield packet
                return
            except IndexError:  # PyAV, at the very end, over streams that appeared on the way
                return
            except MemoryError as error:
                _refuse_out_of_memory(error)
            except FFmpegError:
                failures += 1
                self.errors += 1

    def decoded(self, decode: Callable[[AnyPacket | None], list[Frame]], packet: AnyPacket | None) -> list[Frame]:
        """Frames that this packet completes, or all that are left (None). One that fails is counted and gives none."""
        try:
            return decode(packet)
        except MemoryError as error:
            _refuse_out_of_memory(error)
        except EOFError:  # emptied before
            return []
        except FFmpegError:
            self.errors += 1
            return []


def _require_regular_file(path: Path) -> None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMedia("not_a_file", "it is no regular file")
        if not status.st_size:
            raise UnreadableMedia("empty", "it has zero bytes")
        with open(path, "rb"):
            pass
    except PermissionError as error:
        raise UnreadableMedia("no_permission", str(error.strerror)) from error
    except OSError as error:
        raise UnreadableMedia("not_found", str(error.strerror)) from error


def _refuse_out_of_memory(error: MemoryError) -> NoReturn:
    """FFmpeg found no memory, mostly for a size that the file lies about; Python's own lack of it passes through."""
    if isinstance(error, FFmpegError):
        raise UnreadableMedia("out_of_memory", "FFmpeg asks for more memory than it may have") from error
    raise error


def _usable(streams: list[AnyStream]) -> list[AnyStream]:
    """Those that can be decoded, the default one first; one thread each, since there is one process a core."""
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise UnreadableMedia("unknown_codec", f"no decoder for its {streams[0].type} or its parameters are broken")
    for stream in usable:
        stream.codec_context.thread_count = 1
    return sorted(usable, key=lambda stream: not stream.disposition & Disposition.default)
