"""Reads a video in one pass: its sound and the frames that teachers see, as clips of one timeline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.decoder.account import account_of_reading
from pipeline.decoder.clips import SLACK_SECONDS, ClipAssembler, ClipLacksFrame, DecodedClip, clip_of
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.frame_sampler import SampledFrame
from pipeline.decoder.gop import MAX_HELD_BYTES, MAX_HELD_PACKETS
from pipeline.decoder.settings import DecodeSettings
from pipeline.decoder.video import VideoTrack
from shards.format.clip import ClipSpec
from shards.format.example import MediaAccount
from shards.media.clock import AnyPacket
from shards.media.demux import Demuxer
from shards.media.rejects import Reason, UnreadableMedia, require_readable
from shards.media.waveform import AudioTrack, TrackChoice, audible_track

UNDECODED = ("damaged", "no_frames")
LATE_SECONDS = 0.25  # after where its stream is said to begin: then that is where the sound begins
UNREAD_SECONDS = 1.0  # by which a file may fall short of what it promises
LEAD_SECONDS = 5.0  # of sound that is decoded before a segment: codecs, resampler and placement need some


class VideoReader:
    """Reads one video once, from its beginning, or a segment of it; memory does not grow with its length.

    The timeline is what sound and picture have in common. It is cut into clips of `spec`; the tail is cut to whole
    label windows, and only a video shorter than one window keeps its own length. A segment is from `begin` to `until`
    seconds, counted from where the file's own timeline starts, as `ffmpeg -ss` counts; what lies before it is demuxed
    and not decoded (AVI excepted, which says no times), and times stay those of the file. When `clips` is exhausted,
    `decode_errors`, `dropped` (clips given up, and why), `media_seconds` (the common timeline's length) and `account`
    (where every second of the file went, and what was repaired) are known.
    """

    def __init__(
        self,
        path: Path,
        spec: ClipSpec,
        crops: Sequence[ResizeCrop],
        settings: DecodeSettings,
        progress: Callable[[], None] = lambda: None,
        begin: float = 0.0,
        until: float = math.inf,
    ) -> None:
        self._segment = (begin, until) if (begin, until) != (0.0, math.inf) else None
        self.account = MediaAccount()
        self.decode_errors = 0
        self.dropped: list[str] = []
        self.media_seconds = 0.0
        self._audio = AudioTrack(spec.sample_rate)
        self._given_seconds = 0.0
        self._path, self._spec, self._crops, self._settings = path, spec, crops, settings
        self._progress = progress
        self._track = TrackChoice(-1, left=False)  # the sound track that is read

    def clips(self) -> Iterator[DecodedClip]:
        """The clips in order. Raises UnreadableMedia if there is none, and then before any was given."""
        first, clips = self._open(None)
        if self._audio.cancels or not first.waveform.any():
            track = audible_track(self._path, self._spec.sample_rate, self._progress)
            if track is None:
                raise UnreadableMedia("silent", "every sample of its sound is zero, mixed to one channel")
            if track != self._track:
                clips.close()
                self._given_seconds = 0.0
                first, clips = self._open(track)
        yield first
        yield from clips

    def _open(self, track: TrackChoice | None) -> tuple[DecodedClip, Generator[DecodedClip, None, None]]:
        """The first clip and the others, by this sound track, or the main one."""
        clips = self._recovering(track)
        return next(clips), clips

    def _recovering(self, track: TrackChoice | None) -> Generator[DecodedClip, None, None]:
        """GOP by GOP. From the first clip on that lacks a frame every frame is decoded: the key frames may be none."""
        try:
            yield from self._read(track)
            return
        except ClipLacksFrame as missing:
            first = missing.index
        except UnreadableMedia as fault:
            if fault.reason not in UNDECODED:
                raise
            first = 0
        yield from self._read(track, every_frame=True, first=first)

    def _read(self, track: TrackChoice | None, *, every_frame: bool = False, first: int = 0) -> Iterator[DecodedClip]:
        """The clips from number `first` on; one at least, unless others were given before."""
        with Demuxer(self._path, self._settings.max_pixels, progress=self._progress) as media:
            video_stream = media.video_stream()
            audio_stream = media.audio_stream(track and track.stream)
            self._track = track or TrackChoice(audio_stream.index, left=False)
            self._audio = audio = AudioTrack(self._spec.sample_rate, left=self._track.left)
            begin, until = self._bounds(media)
            decode_audio = _audio_decoder(media, audio_stream, audio, begin - LEAD_SECONDS)
            packets = media.packets(video_stream, audio_stream, beside=[media.audio_stream(None)])
            opening = self._opening(media, packets, audio_stream, decode_audio)
            shift = media.edit_shift(video_stream, opening[0])
            starts = [*_starts(media, audio_stream), *(at + shift for at in _starts(media, video_stream, opening[0]))]
            late = audio.begin_seconds
            if late is not None and late > max(starts, default=0.0) + LATE_SECONDS:
                starts.append(late)
            start = max(max(starts, default=0.0), begin)
            assembler = ClipAssembler(self._spec, start, audio, media, first=first, drops=every_frame, until=until)
            reach = self._spec.window_seconds / self._spec.frames_per_window / 2
            video = VideoTrack(
                media, video_stream, self._crops, self._settings, assembler.times(), reach, shift, every_frame
            )
            for packet in itertools.chain(opening, packets):
                self._progress()
                if packet.stream_index == audio_stream.index:
                    decode_audio(packet)
                else:
                    assembler.add(video.push(packet))
                yield from self._counted(assembler.ready(video.end_seconds))
                if video.done and until <= min(video.end_seconds, audio.end_seconds or start):
                    break
            audio.push(media.decoded(audio_stream.codec_context.decode, None))
            audio.finish()
            assembler.add(video.drain())
            video.hold(audio.end_seconds or start)
            ends = (min(audio.end_seconds or start, until), min(max(video.end_seconds, start), until))
            assembler.add(video.finish(assembler.whole_until(min(ends))))
            yield from self._counted(assembler.rest(min(ends)))
            self.media_seconds = max(min(ends) - start, 0.0)
            self.decode_errors = media.errors
            self.dropped = [fault.detail for fault in assembler.dropped]
            if not self._given_seconds:
                yield from self._counted([self._only_clip(media, assembler, audio, every_frame)])
            file_begin = min(starts, default=0.0)
            self.account = account_of_reading(
                media, audio, assembler, self._given_seconds, file_begin, (begin, until), ends
            )
        if self.account.left_out.get("unread", 0.0) > UNREAD_SECONDS:
            require_readable(self._path, self._progress)  # FFmpeg may take an error of the disk for the file's end

    def _bounds(self, media: Demuxer) -> tuple[float, float]:
        """From when to when the media's timeline is asked for."""
        if self._segment is None:
            return -math.inf, math.inf
        begin, until = self._segment
        return media.start_seconds + begin, media.start_seconds + until

    def _counted(self, clips: Iterable[DecodedClip]) -> Iterator[DecodedClip]:
        for clip in clips:
            self._given_seconds += clip.seconds
            yield clip

    def _opening(
        self,
        media: Demuxer,
        packets: Iterator[AnyPacket],
        audio_stream: AudioStream,
        decode_audio: Callable[[AnyPacket], None],
    ) -> list[AnyPacket]:
        """Of the pictures, from the first key frame on, those in front of where it is certain when the sound begins.

        Sound is taken in. Pictures in front of the key frame cannot be decoded.
        """
        opening, held_bytes = list[AnyPacket](), 0
        for packet in packets:
            self._progress()
            if packet.stream_index == audio_stream.index:
                decode_audio(packet)
            elif opening or packet.is_keyframe:
                opening.append(packet)
                held_bytes += packet.size
            full = len(opening) == MAX_HELD_PACKETS or held_bytes > MAX_HELD_BYTES
            if opening and (full or self._audio.begin_seconds is not None):
                break
        if not opening:
            raise UnreadableMedia("damaged" if media.errors else "no_frames", "there is no key frame in it")
        return opening

    def _only_clip(self, media: Demuxer, assembler: ClipAssembler, audio: AudioTrack, every_frame: bool) -> DecodedClip:
        """A video shorter than one window: one clip of its own length, its frames read anew at the centres of that."""
        if assembler.dropped:
            dropped = assembler.dropped[0]
            raise UnreadableMedia("damaged" if media.errors else dropped.reason, dropped.detail)
        seconds = self.media_seconds
        if audio.end_seconds is None and media.clock.end(self._track.stream) >= self._bounds(media)[0]:
            raise UnreadableMedia("damaged" if media.errors else "no_audio", "no sound could be decoded")
        if seconds + SLACK_SECONDS >= self._spec.window_seconds:
            raise UnreadableMedia("damaged" if media.errors else "no_frames", "no frame could be decoded")
        if seconds < self._settings.min_seconds:
            where = " between {:g} and {:g} s".format(*self._segment) if self._segment else ""
            raise UnreadableMedia("too_short", f"sound and picture have {seconds:.2f} s in common{where}")
        times = [assembler.start + time for time in self._spec.frame_times(1, seconds)]
        reach = seconds / self._spec.frames_per_window / 2
        frames = list(
            _sampled_frames(self._path, times, self._crops, self._settings, reach, self._progress, every_frame)
        )
        fault = next((frame.fault for frame in frames if frame.fault), None)
        if fault or len(frames) < len(times):
            reason: Reason = "damaged" if every_frame else "no_frames"
            raise UnreadableMedia(reason, fault.detail if fault else "no frame could be decoded")
        rate = self._spec.sample_rate
        waveform = audio.take(round(assembler.start * rate), round(seconds * rate))
        return clip_of(0, assembler.start, len(waveform) / rate, waveform, frames)


def _audio_decoder(media: Demuxer, stream: AudioStream, audio: AudioTrack, begin: float) -> Callable[[AnyPacket], None]:
    """What decodes a packet of a stream into `audio`, if it belongs to the time from `begin` seconds on."""
    numerator, denominator = media.time_base(stream)
    latest = math.inf  # until the first stamp comes, a packet may belong to any time

    def decode_audio(packet: AnyPacket) -> None:
        nonlocal latest
        if packet.pts is not None:
            latest = packet.pts * numerator / denominator
        if latest >= begin:
            audio.push(media.decoded(stream.codec_context.decode, packet))

    return decode_audio


def frames_at(
    path: Path,
    times: Sequence[float],
    crops: Sequence[ResizeCrop],
    settings: DecodeSettings,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[float, list[NDArray[np.uint8]]]]:
    """For each of the ascending times (media timeline): the time got, and uint8 (crop, crop, 3) for each ResizeCrop.

    It is the frame displayed then, however long it has been; times behind the end give the last one. Raises
    UnreadableMedia.
    """
    given = 0
    for every_frame in (False, True):
        for frame in _sampled_frames(path, times[given:], crops, settings, math.inf, progress, every_frame):
            if frame.fault:
                break
            given += 1
            yield frame.got, frame.pictures
        if given == len(times):
            return
    raise UnreadableMedia("no_frames", f"{given} of {len(times)} frames could be decoded")


def _sampled_frames(
    path: Path,
    times: Sequence[float],
    crops: Sequence[ResizeCrop],
    settings: DecodeSettings,
    reach: float,
    progress: Callable[[], None],
    every_frame: bool,
) -> Iterator[SampledFrame]:
    with Demuxer(path, settings.max_pixels, progress=progress) as media:
        video_stream = media.video_stream()
        beside = (
            media.audio_streams()[:1] if media.container.streams.audio else []
        )  # for the clock of the first reading
        read = media.packets(video_stream, beside=beside)
        packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, read)
        first = next(packets, None)
        if first is None:
            return
        shift = media.edit_shift(video_stream, first)
        video = VideoTrack(media, video_stream, crops, settings, iter(times), reach, shift, every_frame)
        for packet in itertools.chain([first], packets):
            progress()
            yield from video.push(packet)
            if video.done:
                return
        yield from video.drain()
        yield from video.finish(math.inf)


def _starts(media: Demuxer, stream: AudioStream | VideoStream, first: AnyPacket | None = None) -> Iterator[float]:
    """Seconds before which a stream cannot begin: what the file says, and the first key frame if it is shown."""
    numerator, denominator = media.time_base(stream)
    if stream.start_time is not None:
        yield stream.start_time * numerator / denominator
    if first is not None and first.pts is not None and media.has_times and not first.is_discard:
        yield first.pts * numerator / denominator
