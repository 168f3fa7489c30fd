"""Cuts a video's common timeline into clips: sound and shots go in as they come, whole clips come out."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.shots import Shot
from shards.clip import ClipSpec
from shards.media import UnreadableMedia
from shards.waveform import SoundTrack

SLACK_SECONDS = 0.05  # an audio frame more or less: a window that lacks no more is whole, with silence at its end


@dataclass
class RawClip:
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


class Cutter:
    """The grid of clips from `start` on. Holds what belongs to clips that are not complete yet, and nothing else."""

    def __init__(self, spec: ClipSpec, start: float, sound: SoundTrack) -> None:
        self.start = start
        self.dropped: list[UnreadableMedia] = []  # one for each clip given up
        self.cut_seconds = 0.0  # of the timeline that went into clips, given or dropped
        self._index = 0
        self._spec, self._sound = spec, sound
        self._shots: deque[Shot] = deque()

    def times(self) -> Iterator[float]:
        """Endless: the time of each frame of each clip."""
        for index in itertools.count():
            for time in self._spec.frame_times(self._spec.windows):
                yield self.start + index * self._spec.seconds + time

    def add(self, shots: Iterable[Shot]) -> None:
        """The next shots, in the order of `times`."""
        self._shots.extend(shots)

    def ready(self, picture_end: float) -> Iterator[RawClip]:
        """The clips that sound and picture have both passed."""
        while (
            len(self._shots) >= self._spec.frames
            and self._sound.written >= self._first_sample + self._spec.samples
            and picture_end >= self._begin + self._spec.seconds
        ):
            yield from self._cut(self._spec.windows)

    def rest(self, end: float) -> Iterator[RawClip]:
        """What is left of whole windows up to `end` seconds; a window that lacks less than SLACK_SECONDS is whole."""
        while (windows := self._whole_windows(end)) and len(self._shots) >= windows * self._spec.frames_per_window:
            yield from self._cut(windows)
            if windows < self._spec.windows:
                return

    @property
    def _begin(self) -> float:
        return self.start + self._index * self._spec.seconds

    @property
    def _first_sample(self) -> int:
        return round(self.start * self._spec.sample_rate) + self._index * self._spec.samples

    def _whole_windows(self, end: float) -> int:
        windows = math.floor((end - self._begin + SLACK_SECONDS) / self._spec.window_seconds)
        return min(max(windows, 0), self._spec.windows)

    def _cut(self, windows: int) -> Iterator[RawClip]:
        """The next clip; none if one of its frames could not be had."""
        shots = [self._shots.popleft() for _ in range(windows * self._spec.frames_per_window)]
        waveform = self._sound.take(self._first_sample, windows * self._spec.window_samples)
        begin, index, seconds = self._begin, self._index, windows * self._spec.window_seconds
        self._index += 1
        self.cut_seconds += seconds
        fault = next((shot.fault for shot in shots if shot.fault), None)
        if fault:
            self.dropped.append(UnreadableMedia(fault.reason, f"clip {index}: {fault.detail}"))
        else:
            yield clip_of(index, begin, seconds, waveform, shots)


def clip_of(index: int, start: float, seconds: float, waveform: NDArray[np.int16], shots: list[Shot]) -> RawClip:
    """A clip from its sound and its shots, all of which have pictures."""
    return RawClip(
        index=index,
        start=start,
        seconds=seconds,
        waveform=waveform,
        pictures=[np.stack(pictures) for pictures in zip(*(shot.pictures for shot in shots), strict=True)],
        asked=[shot.asked for shot in shots],
        got=[shot.got for shot in shots],
    )
