"""The reader of stage one: a video in one pass, its sound and the frames teachers look at, as clips of one timeline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.decoder.clips import SLACK_SECONDS, ClipAssembler, DecodedClip, clip_of
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.sampler import SampledFrame
from pipeline.decoder.settings import DecodeSettings
from pipeline.decoder.video import VideoTrack
from shards.format.clip import ClipSpec
from shards.media.file import HOLE_SECONDS, AnyPacket, MediaFile, Reason, UnreadableMedia
from shards.media.waveform import AudioTrack, audible_track

UNDECODED = ("damaged", "no_frames")


class VideoReader:
    """Reads one video once, from its beginning; memory does not grow with its length.

    The timeline is what sound and picture have in common. It is cut into clips of `spec`; the tail is cut to whole
    label windows, and only a video shorter than one window keeps its own length. When `clips` is exhausted,
    `tail_seconds_cut`, `decode_errors`, `dropped` (clips given up, and why) and `media_seconds` (the common timeline's
    length) are known.
    """

    def __init__(
        self,
        path: Path,
        spec: ClipSpec,
        views: Sequence[ResizeCrop],
        reading: DecodeSettings,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.tail_seconds_cut = 0.0
        self.decode_errors = 0
        self.dropped: list[str] = []
        self.media_seconds = 0.0
        self._path, self._spec, self._views, self._reading = path, spec, views, reading
        self._progress = progress
        self._track = -1  # index of the sound track that is read

    def clips(self) -> Iterator[DecodedClip]:
        """The clips in order. Raises UnreadableMedia if there is none, and then before any was given."""
        first, clips = self._open(None)
        if not first.waveform.any():
            track = audible_track(self._path, self._spec.sample_rate, self._progress)
            if track is None:
                raise UnreadableMedia("silent", "every sample of its sound is zero")
            if track != self._track:
                first, clips = self._open(track)
        yield first
        yield from clips

    def _open(self, track: int | None) -> tuple[DecodedClip, Iterator[DecodedClip]]:
        """The first clip and the others. Where no group gives a frame, its key frames may be none: then once more."""
        try:
            clips = self._read(track)
            return next(clips), clips
        except UnreadableMedia as fault:
            if fault.reason not in UNDECODED:
                raise
        clips = self._read(track, every_frame=True)
        return next(clips), clips

    def _read(self, track: int | None, every_frame: bool = False) -> Iterator[DecodedClip]:
        """One clip at least; with this sound track, or the default one."""
        with MediaFile(self._path, self._reading.max_pixels) as media:
            picture = media.picture()
            voice = media.sound(track)
            self._track = voice.index
            sound = AudioTrack(self._spec.sample_rate)
            packets = media.packets(picture, voice)
            first = self._first_key(media, packets, voice, sound)
            shift = media.edit_shift(picture, first)
            start = max([*_starts(media, voice), *(at + shift for at in _starts(media, picture, first))], default=0.0)
            cutter = ClipAssembler(self._spec, start, sound)
            reach = self._spec.window_seconds / self._spec.frames_per_window / 2
            pictures = VideoTrack(media, picture, self._views, self._reading, cutter.times(), reach, shift, every_frame)
            for packet in itertools.chain([first], packets):
                self._progress()
                if packet.stream_index == voice.index:
                    sound.push(media.decoded(voice.codec_context.decode, packet))
                else:
                    cutter.add(pictures.push(packet))
                if cutter.is_ready(pictures.end_seconds):
                    yield from cutter.ready(pictures.end_seconds)
                if abs(max(pictures.end_seconds, start) - max(sound.end_seconds or start, start)) > HOLE_SECONDS:
                    break  # one of the two has ended long ago: nothing in common is to come
            sound.push(media.decoded(voice.codec_context.decode, None))
            sound.finish()
            cutter.add(pictures.drain())
            end = min(sound.end_seconds or cutter.start, pictures.end_seconds)
            cutter.add(pictures.finish(cutter.whole_until(end)))
            yield from cutter.rest(end)
            self._sum_up(media, cutter, end)
            if not cutter.given:
                yield self._only_clip(media, cutter, sound, every_frame)

    def _first_key(
        self, media: MediaFile, packets: Iterator[AnyPacket], voice: AudioStream, sound: AudioTrack
    ) -> AnyPacket:
        """The first key frame; sound in front of it is taken in, pictures in front of it cannot be decoded."""
        for packet in packets:
            self._progress()
            if packet.stream_index == voice.index:
                sound.push(media.decoded(voice.codec_context.decode, packet))
            elif packet.is_keyframe:
                return packet
        raise UnreadableMedia("damaged" if media.errors else "no_frames", "there is no key frame in it")

    def _sum_up(self, media: MediaFile, cutter: ClipAssembler, end: float) -> None:
        self.media_seconds = max(end - cutter.start, 0.0)
        self.tail_seconds_cut = max(self.media_seconds - cutter.cut_seconds, 0.0)
        self.decode_errors = media.errors
        self.dropped = [fault.detail for fault in cutter.dropped]

    def _only_clip(self, media: MediaFile, cutter: ClipAssembler, sound: AudioTrack, every_frame: bool) -> DecodedClip:
        """A video shorter than one window: one clip of its own length, its frames read anew at the centres of that."""
        if cutter.dropped:
            raise UnreadableMedia("damaged" if media.errors else cutter.dropped[0].reason, cutter.dropped[0].detail)
        seconds = self.media_seconds
        if sound.end_seconds is None:
            raise UnreadableMedia("damaged" if media.errors else "no_audio", "no sound could be decoded")
        if seconds + SLACK_SECONDS >= self._spec.window_seconds:
            raise UnreadableMedia("damaged" if media.errors else "no_frames", "no frame could be decoded")
        if seconds < self._reading.min_seconds:
            raise UnreadableMedia("too_short", f"sound and picture have {seconds:.2f} s in common")
        times = [cutter.start + time for time in self._spec.frame_times(1, seconds)]
        reach = seconds / self._spec.frames_per_window / 2
        shots = list(_shots(self._path, times, self._views, self._reading, reach, self._progress, every_frame))
        fault = next((shot.fault for shot in shots if shot.fault), None)
        if fault or len(shots) < len(times):
            reason: Reason = "damaged" if every_frame else "no_frames"
            raise UnreadableMedia(reason, fault.detail if fault else "no frame could be decoded")
        self.tail_seconds_cut = 0.0
        rate = self._spec.sample_rate
        waveform = sound.take(round(cutter.start * rate), round(seconds * rate))
        return clip_of(0, cutter.start, len(waveform) / rate, waveform, shots)


def frames_at(
    path: Path,
    times: Sequence[float],
    views: Sequence[ResizeCrop],
    reading: DecodeSettings,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[float, list[NDArray[np.uint8]]]]:
    """For each of the ascending times (media timeline): the time got, and uint8 (crop, crop, 3) for each view.

    It is the frame displayed then, however long it has been; times behind the end give the last one. Raises
    UnreadableMedia.
    """
    given = 0
    for every_frame in (False, True):
        for shot in _shots(path, times[given:], views, reading, math.inf, progress, every_frame):
            if shot.fault:
                break
            given += 1
            yield shot.got, shot.pictures
        if given == len(times):
            return
    raise UnreadableMedia("no_frames", f"{given} of {len(times)} frames could be decoded")


def _shots(
    path: Path,
    times: Sequence[float],
    views: Sequence[ResizeCrop],
    reading: DecodeSettings,
    reach: float,
    progress: Callable[[], None],
    every_frame: bool,
) -> Iterator[SampledFrame]:
    with MediaFile(path, reading.max_pixels) as media:
        picture = media.picture()
        packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, media.packets(picture))
        first = next(packets, None)
        if first is None:
            return
        shift = media.edit_shift(picture, first)
        track = VideoTrack(media, picture, views, reading, iter(times), reach, shift, every_frame)
        for packet in itertools.chain([first], packets):
            progress()
            yield from track.push(packet)
            if track.done:
                return
        yield from track.drain()
        yield from track.finish(math.inf)


def _starts(media: MediaFile, stream: AudioStream | VideoStream, first: AnyPacket | None = None) -> Iterator[float]:
    """Seconds before which a stream cannot begin: what the file says, and the first key frame if it is shown."""
    numerator, denominator = media.time_base(stream)
    if stream.start_time is not None:
        yield stream.start_time * numerator / denominator
    if first is not None and first.pts is not None and media.has_times and not first.is_discard:
        yield first.pts * numerator / denominator
