"""Cuts the timeline that sound and frames share into clips: both go in as they come, whole clips come out."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.frame_sampler import SampledFrame
from shards.format.clip import ClipSpec
from shards.media.demux import Demuxer
from shards.media.rejects import UnreadableMedia
from shards.media.waveform import AudioTrack

SLACK_SECONDS = 0.05  # an audio frame more or less: a window that lacks no more is whole, with silence at its end
WORTHLESS_SHARE = 0.1  # of packets that fail: pictures and sound that refer to them are no better
FEW_FAILURES = 8  # that a clip may have in any case


@dataclass
class DecodedClip:
    """A clip as read: waveform int16 (samples,); pictures uint8 (frames, crop, crop, 3), one array per ResizeCrop.

    `start`, `asked` and `got` are seconds on the media's timeline; `index` is the clip's place on the video's grid, so
    that clips that were given up leave a gap in the numbers.
    """

    index: int
    start: float
    seconds: float
    waveform: NDArray[np.int16]
    pictures: list[NDArray[np.uint8]]
    asked: list[float]
    got: list[float]


class ClipLacksFrame(Exception):
    """One of the next clip's frames could not be had; `index` is the clip's place on the grid."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class ClipAssembler:
    """The grid of clips from `start` on. Holds what belongs to clips that are not complete yet, and nothing else.

    Clips before number `first` are not given; a later one that lacks a frame, or is mostly damaged, is dropped, or
    raises ClipLacksFrame where `drops` is false. The grid ends with the last whole window before `until` seconds.
    """

    def __init__(
        self,
        spec: ClipSpec,
        start: float,
        audio: AudioTrack,
        media: Demuxer,
        *,
        first: int = 0,
        drops: bool = True,
        until: float = math.inf,
    ) -> None:
        self.start = start
        self._until = until
        self.dropped: list[UnreadableMedia] = []  # one for each clip given up
        self.given_seconds = self.dropped_seconds = 0.0  # in clips from number `first` on
        self.cut_until = start  # seconds at which the latest clip ends, given or not
        self._first, self._drops = first, drops
        self._spec, self._audio, self._media = spec, audio, media
        self._tried = self._failed = 0  # packets, in front of the next clip
        self._frames: deque[SampledFrame] = deque()
        self._index = 0  # of the next clip
        self._begin, self._end = start, start + spec.seconds  # of the next clip
        self._first_sample = round(start * spec.sample_rate)

    def times(self) -> Iterator[float]:
        """The time of each frame of each clip; endless, unless the grid has an end."""
        for index in itertools.count():
            begin = self.start + index * self._spec.seconds
            windows = self._spec.windows
            if begin + self._spec.seconds > self._until:
                windows = min(self._windows_from(begin, self._until), windows)
            for time in self._spec.frame_times(windows) if windows else ():
                yield begin + time
            if windows < self._spec.windows:
                return

    def add(self, frames: Iterable[SampledFrame]) -> None:
        """The next sampled frames, in the order of `times`."""
        self._frames.extend(frames)

    def ready(self, video_end: float) -> Iterator[DecodedClip]:
        """The clips that sound and picture have both passed; the latter is known up to `video_end` seconds."""
        while (
            video_end >= self._end
            and self._audio.written >= self._first_sample + self._spec.samples
            and len(self._frames) >= self._spec.frames
        ):
            yield from self._cut(self._spec.windows)

    def whole_until(self, end: float) -> float:
        """Where the last whole window ends; one that lacks no more than SLACK_SECONDS is whole."""
        return self._begin + self._windows_until(end) * self._spec.window_seconds

    def rest(self, end: float) -> Iterator[DecodedClip]:
        """What is left of whole windows up to `end` seconds."""
        while windows := min(self._windows_until(end), self._spec.windows):
            if len(self._frames) < windows * self._spec.frames_per_window:
                return
            yield from self._cut(windows)

    def _windows_until(self, end: float) -> int:
        return self._windows_from(self._begin, end)

    def _windows_from(self, begin: float, end: float) -> int:
        return max(math.floor((end - begin + SLACK_SECONDS) / self._spec.window_seconds), 0)

    def _cut(self, windows: int) -> Iterator[DecodedClip]:
        """The next clip; none if one of its frames could not be had."""
        frames = [self._frames.popleft() for _ in range(windows * self._spec.frames_per_window)]
        waveform = self._audio.take(self._first_sample, windows * self._spec.window_samples)
        begin, index, seconds = self._begin, self._index, windows * self._spec.window_seconds
        self.cut_until = begin + seconds
        self._index += 1
        self._begin = self.start + self._index * self._spec.seconds
        self._end = self._begin + self._spec.seconds
        self._first_sample += self._spec.samples
        fault = self._damage(len(waveform)) or next((frame.fault for frame in frames if frame.fault), None)
        if index < self._first:
            return
        if fault is None:
            self.given_seconds += seconds
            yield clip_of(index, begin, seconds, waveform, frames)
        elif self._drops:
            self.dropped_seconds += seconds
            self.dropped.append(UnreadableMedia(fault.reason, f"clip {index}: {fault.detail}"))
        else:
            raise ClipLacksFrame(index)

    def _damage(self, samples: int) -> UnreadableMedia | None:
        """What makes the clip that was just taken worthless: packets that failed since the one before it."""
        media, audio = self._media, self._audio
        failed, self._failed = self._failed, media.errors + media.corrupt_frames
        tried, self._tried = self._tried, media.decoded_packets
        failed, tried = self._failed - failed, self._tried - tried
        if failed >= FEW_FAILURES and failed > WORTHLESS_SHARE * tried:
            return UnreadableMedia("damaged", f"{failed} errors in {tried} packets")
        if failed and audio.missing > self._spec.samples / 2:
            return UnreadableMedia(
                "damaged", f"{audio.missing / self._spec.sample_rate:.1f} s of its sound are missing"
            )
        return None


def clip_of(
    index: int, start: float, seconds: float, waveform: NDArray[np.int16], frames: list[SampledFrame]
) -> DecodedClip:
    """A clip from its sound and its sampled frames, all of which have pictures."""
    return DecodedClip(
        index=index,
        start=start,
        seconds=seconds,
        waveform=waveform,
        pictures=[np.stack(pictures) for pictures in zip(*(frame.pictures for frame in frames), strict=True)],
        asked=[frame.asked for frame in frames],
        got=[frame.got for frame in frames],
    )
