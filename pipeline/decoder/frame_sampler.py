"""Which frame stands for a time, and its pictures, from decoded frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from pipeline.decoder.crop import FrameResizer
from pipeline.decoder.gop import Gop, TimedPacket
from pipeline.decoder.settings import DecodeSettings
from shards.media.rejects import UnreadableMedia

ROUNDING = 1e-6  # seconds; asked times are sums of floats


def cheapest(gop: Gop, time: float, settings: DecodeSettings) -> TimedPacket | None:
    """The frame of least work that sampling allows for a time; None where that is the one displayed then.

    It is the nearest key frame, or of the frames within the tolerance the one that the decoder comes to first.
    Rising times choose rising frames: where two lie within both tolerances, the same one is first for both.
    """
    if settings.sampling == "exact":
        return None
    key = min([gop.key, *gop.after[:1]], key=lambda key: abs(key.begin - time))
    if settings.sampling == "keyframe":
        return key
    within = (
        timed
        for timed in [key, *gop.packets, *gop.after[1:]]
        if not timed.hidden and abs(timed.begin - time) <= settings.tolerance + ROUNDING
    )
    return next(within, None)


@dataclass(frozen=True)
class FrameRequest:
    """A time, the time at which the frame displayed then begins, and until when that frame itself lasts. Seconds."""

    time: float
    target: float
    lasts: float


@dataclass(frozen=True)
class SampledFrame:
    """What one asked-for time gave: pictures uint8 (crop, crop, 3), one per ResizeCrop; or none, and why."""

    asked: float
    got: float
    pictures: list[NDArray[np.uint8]]
    fault: UnreadableMedia | None = None


class FrameSampler:
    """Answers requests, in the order of their targets, from the frames of one GOP, in the order of their display.

    Where the target itself does not decode, the nearest frame that did stands in for it. A frame further than `reach`
    seconds from the time asked for is taken only if it is the target and itself lasts until then: in a file cut short a
    hole would look just like a still picture.
    """

    def __init__(self, resizer: FrameResizer, reach: float) -> None:
        self.latest: float | None = None  # when the latest frame of this GOP begins
        self._resizer, self._reach = resizer, reach
        self._requests: deque[FrameRequest] = deque()
        self._latest: av.VideoFrame | None = None
        self._resized: tuple[float | None, list[NDArray[np.uint8]]] = (None, [])  # one frame may answer many requests

    @property
    def waiting(self) -> bool:
        """Whether some request has no answer yet."""
        return bool(self._requests)

    def request(self, request: FrameRequest) -> None:
        """Requests come in the order of their targets."""
        self._requests.append(request)

    def push(self, begin: float, frame: av.VideoFrame) -> Iterator[SampledFrame]:
        """The next decoded frame: answers the requests for the time before it."""
        while self._requests and self._requests[0].target < begin:
            yield self._answer(self._requests.popleft(), (begin, frame))
        if self.latest is None or begin >= self.latest:
            self.latest, self._latest = begin, frame

    def finish(self) -> Iterator[SampledFrame]:
        """The GOP is over: answers the requests left from its last frame, and forgets it."""
        while self._requests:
            yield self._answer(self._requests.popleft(), None)
        self.latest = self._latest = None
        self._resized = (None, [])

    def _answer(self, request: FrameRequest, following: tuple[float, av.VideoFrame] | None) -> SampledFrame:
        near = [] if following is None else [following]
        if self.latest is not None and self._latest is not None:
            near.insert(0, (self.latest, self._latest))
        if not near:
            return _missing(request, "no frame of its group could be decoded")
        exact = self.latest == request.target
        begin, frame = near[0] if exact else min(near, key=lambda timed: abs(timed[0] - request.time))
        if abs(begin - request.time) > self._reach and not (exact and request.lasts >= request.time):
            return _missing(request, f"the nearest is at {begin:.3f} s")
        try:
            return SampledFrame(request.time, begin, self._resize(begin, frame))
        except UnreadableMedia as fault:
            return SampledFrame(request.time, begin, [], fault)

    def _resize(self, begin: float, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        if self._resized[0] != begin:
            try:
                self._resized = (begin, self._resizer.pictures(frame))
            except (FFmpegError, ValueError) as error:
                raise UnreadableMedia("damaged", f"the frame at {begin:.3f} s: {error}") from error
        return self._resized[1]


def _missing(request: FrameRequest, detail: str) -> SampledFrame:
    return SampledFrame(
        request.time, request.time, [], UnreadableMedia("no_frames", f"no frame for {request.time:.3f} s: {detail}")
    )
