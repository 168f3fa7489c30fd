"""Shots: from frames, as the decoder shows them, to the pictures that stand for the times asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from pipeline.decoder.crop import FrameResizer
from shards.media.file import UnreadableMedia


@dataclass(frozen=True)
class FrameRequest:
    """A time, the time at which the frame displayed then begins, and until when that frame itself lasts. Seconds."""

    time: float
    target: float
    lasts: float


@dataclass(frozen=True)
class SampledFrame:
    """What one asked-for time gave: pictures uint8 (crop, crop, 3), one per view; or none, and why."""

    asked: float
    got: float
    pictures: list[NDArray[np.uint8]]
    fault: UnreadableMedia | None = None


class FrameSampler:
    """Answers asks, in the order of their targets, from the frames of one group, in the order of their display.

    Where the target itself does not decode, the nearest frame that did stands in for it. A frame further than `reach`
    seconds from the time asked for is taken only if it is the target and itself lasts until then: in a file cut short a
    hole would look just like a still picture.
    """

    def __init__(self, lens: FrameResizer, reach: float) -> None:
        self.latest: float | None = None  # when the frame shown last in this group begins
        self._lens, self._reach = lens, reach
        self._asks: deque[FrameRequest] = deque()
        self._latest: av.VideoFrame | None = None
        self._drawn: tuple[float | None, list[NDArray[np.uint8]]] = (None, [])  # one frame may answer many asks

    @property
    def waiting(self) -> bool:
        """Whether some ask has no answer yet."""
        return bool(self._asks)

    def ask(self, ask: FrameRequest) -> None:
        """Asks come in the order of their targets."""
        self._asks.append(ask)

    def show(self, begin: float, frame: av.VideoFrame) -> Iterator[SampledFrame]:
        """The next decoded frame: answers what is asked of the time before it."""
        while self._asks and self._asks[0].target < begin:
            yield self._answer(self._asks.popleft(), (begin, frame))
        if self.latest is None or begin >= self.latest:
            self.latest, self._latest = begin, frame

    def close(self) -> Iterator[SampledFrame]:
        """The group is over: answers what is left from its last frame, and forgets it."""
        while self._asks:
            yield self._answer(self._asks.popleft(), None)
        self.latest = self._latest = None
        self._drawn = (None, [])

    def _answer(self, ask: FrameRequest, following: tuple[float, av.VideoFrame] | None) -> SampledFrame:
        near = [] if following is None else [following]
        if self.latest is not None and self._latest is not None:
            near.insert(0, (self.latest, self._latest))
        if not near:
            return _missing(ask, "no frame of its group could be decoded")
        exact = self.latest == ask.target
        begin, frame = near[0] if exact else min(near, key=lambda shown: abs(shown[0] - ask.time))
        if abs(begin - ask.time) > self._reach and not (exact and ask.lasts >= ask.time):
            return _missing(ask, f"the nearest is at {begin:.3f} s")
        try:
            return SampledFrame(ask.time, begin, self._draw(begin, frame))
        except UnreadableMedia as fault:
            return SampledFrame(ask.time, begin, [], fault)

    def _draw(self, begin: float, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        if self._drawn[0] != begin:
            try:
                self._drawn = (begin, self._lens.pictures(frame))
            except (FFmpegError, ValueError) as error:
                raise UnreadableMedia("damaged", f"the frame at {begin:.3f} s: {error}") from error
        return self._drawn[1]


def _missing(ask: FrameRequest, detail: str) -> SampledFrame:
    return SampledFrame(
        ask.time, ask.time, [], UnreadableMedia("no_frames", f"no frame for {ask.time:.3f} s: {detail}")
    )
