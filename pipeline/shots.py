"""Shots: from frames as the decoder shows them to the pictures that stand for the times asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.view import View, pictures_of
from shards.media import UnreadableMedia


@dataclass(frozen=True)
class Ask:
    """A time in seconds, the time stamp of the frame displayed then, and the second until which that frame itself lasts."""

    seconds: float
    target: int
    lasts: float


@dataclass(frozen=True)
class Shot:
    """What one asked-for time gave: pictures uint8 (crop, crop, 3), one per view; or none, and why."""

    asked: float
    got: float
    pictures: list[NDArray[np.uint8]]
    fault: UnreadableMedia | None = None


class Shutter:
    """Answers asks, in the order of their targets, from the frames of one group, in the order they are displayed.

    Where the target itself does not decode, the nearest frame that did stands in for it. A frame further than `reach`
    seconds from the time asked for is taken only if it is the target and itself lasts until then: in a file cut short a
    hole would look just like a still picture.
    """

    def __init__(self, stream: VideoStream, views: Sequence[View], max_pixels: int, reach: float) -> None:
        self._stream, self._views, self._max_pixels, self._reach = stream, views, max_pixels, reach
        self._asks: deque[Ask] = deque()
        self._latest: av.VideoFrame | None = None
        self._drawn: tuple[int | None, list[NDArray[np.uint8]]] = (None, [])  # one frame may answer many asks

    @property
    def latest(self) -> av.VideoFrame | None:
        """The frame shown last in this group."""
        return self._latest

    @property
    def waiting(self) -> bool:
        """Whether some ask has no answer yet."""
        return bool(self._asks)

    def ask(self, ask: Ask) -> None:
        """Asks come in the order of their targets."""
        self._asks.append(ask)

    def show(self, frame: av.VideoFrame) -> Iterator[Shot]:
        """The next decoded frame: answers what is asked of the time before it."""
        while self._asks and self._asks[0].target < frame.pts:
            yield self._answer(self._asks.popleft(), frame)
        if self._latest is None or frame.pts >= self._latest.pts:
            self._latest = frame

    def close(self) -> Iterator[Shot]:
        """The group is over: answers what is left from its last frame, and forgets it."""
        while self._asks:
            yield self._answer(self._asks.popleft(), None)
        self._latest, self._drawn = None, (None, [])

    def seconds(self, time_stamp: int) -> float:
        """A time stamp of this stream on the media's timeline."""
        base = self._stream.time_base
        return time_stamp * base.numerator / base.denominator

    def _answer(self, ask: Ask, following: av.VideoFrame | None) -> Shot:
        near = [frame for frame in (self._latest, following) if frame is not None]
        if not near:
            return self._missing(ask, "no frame of its group could be decoded")
        exact = self._latest is not None and self._latest.pts == ask.target
        frame = near[0] if exact else min(near, key=lambda frame: abs(self.seconds(frame.pts) - ask.seconds))
        got = self.seconds(frame.pts)
        if abs(got - ask.seconds) > self._reach and not (exact and ask.lasts >= ask.seconds):
            return self._missing(ask, f"the nearest frame is at {got:.3f} s")
        try:
            return Shot(ask.seconds, got, self._draw(frame))
        except UnreadableMedia as fault:
            return Shot(ask.seconds, got, [], fault)

    def _draw(self, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        if self._drawn[0] != frame.pts:
            try:
                pictures = pictures_of(frame, self._views, self._stream.sample_aspect_ratio, self._max_pixels)
            except (FFmpegError, ValueError) as error:
                raise UnreadableMedia("damaged", f"the frame at {self.seconds(frame.pts):.3f} s: {error}") from error
            self._drawn = (frame.pts, pictures)
        return self._drawn[1]

    def _missing(self, ask: Ask, detail: str) -> Shot:
        fault = UnreadableMedia("no_frames", f"asked for a frame at {ask.seconds:.3f} s: {detail}")
        return Shot(ask.seconds, ask.seconds, [], fault)
