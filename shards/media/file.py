"""A media file that may be anything: opened, and its streams chosen, without being trusted."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from shards.files import BLOCK_BYTES
from shards.media.clock import AnyPacket
from shards.media.rejects import (
    UnreadableMedia,
    refuse_out_of_memory,
    require_readable,
    require_regular_file,
)

MEDIA_SUFFIXES = (
    *(".3g2", ".3gp", ".3gp2", ".3gpp", ".3gpp2", ".asf", ".avi", ".dif", ".divx", ".dv", ".dvr-ms", ".evo", ".f4v"),
    *(".flv", ".gxf", ".insv", ".ismv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg"),
    *(".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpg4", ".mpv", ".mts"),
    *(".mxf", ".nsv", ".nut", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vob"),
    *(".vro", ".webm", ".wmv", ".wtv", ".xvid", ".y4m"),
)
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma")
RECORDING_SUFFIXES = frozenset({*SOUND_SUFFIXES, *MEDIA_SUFFIXES})  # where the sound is what matters

MAX_PIXELS = 8192 * 4320
MOST_BOXES = 200_000  # of an MP4: a gigabyte of empty ones would be boxes without end
# By FFmpeg's name of the format: what stands once in a file, at its begin.
HEADS = {
    "matroska,webm": re.compile(rb"\x1a\x45\xdf\xa3.{1,60}?(matroska|webm)", re.DOTALL),  # RFC 8794, 8.1
    "flv": re.compile(rb"FLV\x01[\0\x01\x04\x05]\0\0\0\x09\0\0\0\0"),
    "ogg": re.compile(rb"OggS\0[\x02\x06]"),  # RFC 3533, 6: the first page of a stream
    "asf": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c"),
}
HEAD_BYTES = 80
UNINDEXED = ("mpegts", "mpeg", "ogg", "flv", "asf")  # which end with film
LEFT_SHARE, LEFT_BYTES = 0.02, 100_000  # of such a file, behind the last packet that was read: more of both is film
LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)  # of open files and of processes

AnyStream = TypeVar("AnyStream", AudioStream, VideoStream)

# What FFmpeg may open: formats that are one file. None that names other files (concat, HLS, DASH, SDP, image sequences)
# or runs a script (AviSynth), whatever a file's name or its first bytes say.
FORMATS = (
    "3g2,3gp,aa,aac,ac3,aiff,amr,amrnb,amrwb,ape,apv,asf,ast,au,av1,avi,avs,avs2,avs3,bink,caf,cavsvideo,dhav,"
    "dirac,dsf,dts,dtshd,dv,eac3,evc,flac,flv,g722,gif,gsm,gxf,h261,h263,h264,hevc,iff,ircam,ivf,ivr,kux,"
    "live_flv,loas,lxf,m4a,m4v,matroska,mjpeg,mlp,mmf,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mpegtsraw,mpegvideo,mv,"
    "mxf,nistsphere,nsv,nut,nuv,obu,ogg,oma,pva,pvf,qcp,r3d,rm,roq,rpl,shn,smk,sox,swf,tak,truehd,tta,ty,vc1,"
    "vivo,voc,vvc,w64,wav,wc3movie,webm,wsd,wtv,wv,xwma,yuv4mpegpipe"
)


class MediaFile:
    """One open file, and which of its streams are to be read (see demux.py).

    Raises UnreadableMedia when opened or asked for a stream that is not there.
    """

    def __init__(
        self,
        path: Path,
        max_pixels: int = MAX_PIXELS,
        options: Mapping[str, str] = MappingProxyType({}),
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._path, self._max_pixels, self._progress = path, max_pixels, progress
        require_regular_file(path)
        try:
            self.container = _opened(path, **options)
        except MemoryError as error:
            refuse_out_of_memory(error)
        except (FFmpegError, OSError, ValueError) as error:
            refuse_disk_fault(path, error, progress)
            message = getattr(error, "strerror", None) or type(error).__name__
            raise UnreadableMedia("not_media", f"FFmpeg cannot open it: {message}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    def promised_end(self, begin: float) -> float:
        """Seconds at which the file ends by what its container tells of its length; `begin` where it tells nothing.

        MP4 tells the length of every track: those of data (captions, motion, hints) are no film. AVI counts its frames,
        and FFmpeg believes the size of the file instead.
        """
        films = [stream for stream in self.container.streams if stream.type in ("audio", "video")]
        ends = [((stream.start_time or 0) + stream.duration, stream) for stream in films if stream.duration]
        if self.is_indexed and len(ends) == len(films):
            return max(ticks * float(stream.time_base or 1) for ticks, stream in ends)
        length = max((self.container.duration or 0) / av.time_base, 0.0)
        if not self.has_times:
            length = max(
                [length, *(float(film.frames / film.average_rate) for film in self._moving() if film.average_rate)]
            )
        counts_from_zero = "matroska" in self.container.format.name and length > begin  # as its header has it
        return max(length, begin) if counts_from_zero else begin + length

    @property
    def start_seconds(self) -> float:
        """Where its timeline begins: that of whichever stream is first, as `ffmpeg -ss` counts."""
        return (self.container.start_time or 0) / av.time_base

    @property
    def has_times(self) -> bool:
        """AVI stores no presentation times; what FFmpeg then puts on packets is a guess."""
        return self.container.format.name != "avi"

    @property
    def stores_dts(self) -> bool:
        """Matroska, Ogg and NUT store times of display alone; those of decoding are guessed, and do not rise."""
        return not {"matroska", "webm", "ogg", "nut"} & set(self.container.format.name.split(","))

    def next_film(self, byte: int) -> int | None:
        """Where film begins that lies behind this byte: there is another one's head, or the rest is long, and no index.

        MP4, Matroska and AVI may have an index or attachments there.
        """
        name = self.container.format.name
        with suppress(OSError):  # it may be gone by now
            if self.is_indexed:
                return _second_film(self._path, byte)
            if name in HEADS and (begin := _next_head(self._path, HEADS[name], byte, self._progress)):
                return begin
        is_long = self.container.size - byte >= max(LEFT_SHARE * self.container.size, LEFT_BYTES)
        return byte if is_long and name in UNINDEXED else None

    def stated_seconds(self, stream: AudioStream) -> float:
        """How long a file of sound says that a track is; 0 where it does not say so, or wave.py has seen to it."""
        if self.is_indexed:
            return (stream.duration or 0) * float(stream.time_base or 1)
        return (self.container.duration or 0) / av.time_base * (self.container.format.name in ("flac", "tta", "wv"))

    @property
    def is_indexed(self) -> bool:
        """MP4 and its kin list every frame, so that a long time between two is meant; elsewhere it may be a hole."""
        return "mp4" in self.container.format.name

    def video_stream(self) -> VideoStream:
        """The moving picture: no cover art or thumbnails; the default one of several."""
        if not (moving := self._moving()):
            raise UnreadableMedia("no_video", "there is no moving picture in it")
        stream = _usable(moving)[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > self._max_pixels:
            raise UnreadableMedia("too_large", f"{width}x{height} is more than reading.max_pixels={self._max_pixels}")
        # for a stream that grows on the way; doubled, since the decoder counts the margins of its buffers too
        stream.codec_context.options = {"max_pixels": str(2 * self._max_pixels)}
        return stream

    def audio_streams(self) -> list[AudioStream]:
        """The sound tracks that can be decoded and belong to the picture, the main one first.

        In a multiplex of several programs those of the picture's own; commentaries and descriptions come last.
        """
        tracks = list(self.container.streams.audio)
        if not tracks:
            raise UnreadableMedia("no_audio", "there is no sound track in it")
        if len(tracks) > 1 and (pictures := self._moving()):
            best = self.container.streams.best  # FFmpeg's choice in the program of a stream
            main = best("audio", related=_usable(pictures)[0])
            tracks = [track for track in tracks if best("audio", related=track) == main] or tracks
        return sorted(_usable(tracks), key=lambda track: _is_aside(track))

    def audio_stream(self, index: int | None) -> AudioStream:
        """The sound track with this stream index, or the main one."""
        return next(stream for stream in self.audio_streams() if index in (None, stream.index))

    def _moving(self) -> list[VideoStream]:
        aside = Disposition.attached_pic | Disposition.timed_thumbnails
        return [stream for stream in self.container.streams.video if not stream.disposition & aside]

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
        with suppress(FFmpegError), _opened(self._path, advanced_editlist="0") as plain:
            for packet in plain.demux(plain.streams[stream.index]):
                if packet.pos == first.pos and packet.pts is not None and first.pts is not None:
                    return float((packet.pts - first.pts) * packet.time_base)
        return 0.0


def _opened(path: Path, **options: str) -> InputContainer:
    """One file and no other: a playlist, an image sequence or a reference inside it opens nothing."""
    try:
        return av.open(
            f"file:{path}",  # a name such as `http:x.mp4` is no address
            metadata_errors="replace",  # UCF101 has metadata that is not UTF-8
            container_options={"protocol_whitelist": "file", "format_whitelist": FORMATS, **options},
        )
    except FFmpegError as error:
        if error.errno in LIMITS:  # FFmpeg says EIO of files that are cut short, so that it tells nothing of the disk
            raise UnreadableMedia("io_error", os.strerror(error.errno)) from error
        raise


def _second_film(path: Path, byte: int) -> int | None:
    """Where a second film begins: its index and media (`moov`, `mdat`; ISO 14496-12, 4.2) are behind `byte`.

    Players and FFmpeg read one. Segments of a stream that each begin with its index are read; an index that a camera
    has written again is that of the same media.
    """
    indices, begin, size = 0, 0, os.path.getsize(path)
    behind: dict[bytes, int] = {}
    with open(path, "rb") as stream:
        for _ in range(MOST_BOXES):
            if begin >= size:
                break
            stream.seek(begin)
            head = stream.read(16)
            length, kind = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4], "big"), head[4:8]
            if begin > byte:
                behind.setdefault(kind, begin)
            indices += kind == b"moov"
            if indices > 1 and {b"moov", b"mdat"} <= behind.keys():
                return behind.get(b"ftyp", min(behind[b"moov"], behind[b"mdat"]))
            begin += length if length >= 8 else size
    return None


def _next_head(path: Path, head: re.Pattern[bytes], begin: int, progress: Callable[[], None]) -> int | None:
    """Where another file begins behind `begin`."""
    with open(path, "rb") as stream:
        stream.seek(begin)
        before = b""
        while block := stream.read(BLOCK_BYTES):
            progress()
            if found := head.search(before + block):
                return begin - len(before) + found.start()
            begin, before = begin + len(block), block[-HEAD_BYTES:]
    return None


def refuse_disk_fault(path: Path, error: Exception, progress: Callable[[], None]) -> None:
    """Raise UnreadableMedia where an error of FFmpeg's is the disk's: EIO is its word for a file cut short too.

    It is the disk's where the file cannot be read through, or where FFmpeg itself now reads it through.
    """
    if getattr(error, "errno", None) not in (errno.EIO, errno.ESTALE):
        return
    require_readable(path, progress)
    with suppress(FFmpegError, ValueError):
        with _opened(path) as again:
            for _ in again.demux():
                progress()
        raise UnreadableMedia("io_error", f"{os.strerror(errno.EIO)}, for a moment") from error


def _is_aside(track: AudioStream) -> bool:
    """Whether a sound track comments on the film or describes it."""
    kinds = Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired | Disposition.karaoke
    named = re.search(r"[ck]om+ent|des[ck]ri", track.metadata.get("title", ""), re.IGNORECASE)
    return bool(track.disposition & kinds) or named is not None


def _usable(streams: list[AnyStream]) -> list[AnyStream]:
    """Those that can be decoded, the default one first; one thread each, since there is one process a core."""
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise UnreadableMedia("unknown_codec", f"no decoder for its {streams[0].type} or its parameters are broken")
    for stream in usable:
        stream.codec_context.thread_count = 1
    return sorted(usable, key=lambda stream: not stream.disposition & Disposition.default)
