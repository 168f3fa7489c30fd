"""Cuts a video's common timeline into clips: sound and shots go in as they come, whole clips come out."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.sampler import SampledFrame
from shards.format.clip import ClipSpec
from shards.media.file import UnreadableMedia
from shards.media.waveform import AudioTrack

SLACK_SECONDS = 0.05  # an audio frame more or less: a window that lacks no more is whole, with silence at its end


@dataclass
class DecodedClip:
    """A clip as read: waveform int16 (samples,); pictures uint8 (frames, crop, crop, 3), one array per view.

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


class ClipAssembler:
    """The grid of clips from `start` on. Holds what belongs to clips that are not complete yet, and nothing else."""

    def __init__(self, spec: ClipSpec, start: float, sound: AudioTrack) -> None:
        self.start = start
        self.given = 0  # clips
        self.dropped: list[UnreadableMedia] = []  # one for each clip given up
        self.cut_seconds = 0.0  # of the timeline that went into clips, given or dropped
        self._spec, self._sound = spec, sound
        self._shots: deque[SampledFrame] = deque()
        self._index = 0  # of the next clip
        self._begin, self._end = start, start + spec.seconds  # of the next clip
        self._first_sample = round(start * spec.sample_rate)

    def times(self) -> Iterator[float]:
        """Endless: the time of each frame of each clip."""
        for index in itertools.count():
            for time in self._spec.frame_times(self._spec.windows):
                yield self.start + index * self._spec.seconds + time

    def add(self, shots: Iterable[SampledFrame]) -> None:
        """The next shots, in the order of `times`."""
        self._shots.extend(shots)

    def is_ready(self, picture_end: float) -> bool:
        """Whether sound and picture have both passed the next clip."""
        return (
            picture_end >= self._end
            and self._sound.written >= self._first_sample + self._spec.samples
            and len(self._shots) >= self._spec.frames
        )

    def ready(self, picture_end: float) -> Iterator[DecodedClip]:
        """The clips that sound and picture have both passed."""
        while self.is_ready(picture_end):
            yield from self._cut(self._spec.windows)

    def whole_until(self, end: float) -> float:
        """Where the last whole window ends; one that lacks no more than SLACK_SECONDS is whole."""
        return self._begin + self._windows_until(end) * self._spec.window_seconds

    def rest(self, end: float) -> Iterator[DecodedClip]:
        """What is left of whole windows up to `end` seconds."""
        while windows := min(self._windows_until(end), self._spec.windows):
            if len(self._shots) < windows * self._spec.frames_per_window:
                return
            yield from self._cut(windows)

    def _windows_until(self, end: float) -> int:
        return max(math.floor((end - self._begin + SLACK_SECONDS) / self._spec.window_seconds), 0)

    def _cut(self, windows: int) -> Iterator[DecodedClip]:
        """The next clip; none if one of its frames could not be had."""
        shots = [self._shots.popleft() for _ in range(windows * self._spec.frames_per_window)]
        waveform = self._sound.take(self._first_sample, windows * self._spec.window_samples)
        begin, index, seconds = self._begin, self._index, windows * self._spec.window_seconds
        self._index += 1
        self._begin = self.start + self._index * self._spec.seconds
        self._end = self._begin + self._spec.seconds
        self._first_sample += self._spec.samples
        self.cut_seconds += seconds
        fault = next((shot.fault for shot in shots if shot.fault), None)
        if fault:
            self.dropped.append(UnreadableMedia(fault.reason, f"clip {index}: {fault.detail}"))
        else:
            self.given += 1
            yield clip_of(index, begin, seconds, waveform, shots)


def clip_of(
    index: int, start: float, seconds: float, waveform: NDArray[np.int16], shots: list[SampledFrame]
) -> DecodedClip:
    """A clip from its sound and its shots, all of which have pictures."""
    return DecodedClip(
        index=index,
        start=start,
        seconds=seconds,
        waveform=waveform,
        pictures=[np.stack(pictures) for pictures in zip(*(shot.pictures for shot in shots), strict=True)],
        asked=[shot.asked for shot in shots],
        got=[shot.got for shot in shots],
    )
