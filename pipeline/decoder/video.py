"""The frames displayed at given times, from one stream's packets in file order.

Groups of pictures in which no asked-for time lies are never decoded; the others are decoded up to the last frame asked
for, without the frames that no other frame refers to. No seeking, no index.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal

from av.video.stream import VideoStream

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from pipeline.decoder.gop import Gop, GopSplitter, TimedPacket
from pipeline.decoder.sampler import FrameRequest, FrameSampler, SampledFrame
from pipeline.decoder.settings import DecodeSettings
from shards.media.file import HOLE_SECONDS, AnyPacket, MediaFile

ROUNDING = 1e-6  # seconds; asked times are sums of floats


class VideoTrack:
    """Takes a stream's packets from a key frame on; gives a SampledFrame for each of the ascending `times`, in order.

    All time stamps are moved by `shift` seconds. With `every_frame` all frames are decoded in turn, for streams whose
    key frames cannot be trusted.
    """

    def __init__(
        self,
        media: MediaFile,
        stream: VideoStream,
        views: Sequence[ResizeCrop],
        reading: DecodeSettings,
        times: Iterator[float],
        reach: float,
        shift: float,
        every_frame: bool = False,
    ) -> None:
        self.end_seconds = -math.inf  # where the packets seen so far end
        self._media, self._context, self._reading, self._times = media, stream.codec_context, reading, times
        self._upcoming = next(times, math.inf)
        self._shutter = FrameSampler(FrameResizer(views, stream.sample_aspect_ratio, reading.max_pixels), reach)
        self._groups = GopSplitter()
        self._carried: list[FrameRequest] = []  # to be answered by the next group's key frame
        self._skipping: Literal["DEFAULT", "NONREF"] = "DEFAULT"
        self._every_frame = every_frame or not media.has_times  # then only the decoder knows when each frame is shown
        self._guessed: list[int] = []  # a heap of time stamps that no frame has taken yet
        self._ended = False  # after a leap of HOLE_SECONDS nothing more is taken
        self._fields = self._context.field_order > 1  # interlaced: two packets may make one frame
        self._base, self._shift = media.time_base(stream), shift
        self._context.open(strict=False)  # dav1d would keep the `skip_frame` that it is opened with
        rate = stream.average_rate
        self._frame_seconds = float(1 / rate) if rate else 0.0  # for packets that do not know how long they last

    @property
    def done(self) -> bool:
        """Whether every one of a finite list of times has its shot."""
        return self._upcoming == math.inf and not self._carried and not self._shutter.waiting

    def push(self, packet: AnyPacket) -> Iterator[SampledFrame]:
        """Takes the next packet; gives the shots that have become certain."""
        held = self._hold(packet)
        if self._ended:
            return
        if held is None and not self._every_frame:
            yield from self._give_up_groups()
        if held is None or self._every_frame:
            yield from self._decode_in_order(packet)
            return
        for group in self._groups.push(held):
            yield from self._settle(group, math.inf)

    def drain(self) -> Iterator[SampledFrame]:
        """No more packets will come: from here on `end_seconds` is where the stream ends."""
        if self._every_frame:
            yield from self._decode_in_order(None)

    def finish(self, until: float) -> Iterator[SampledFrame]:
        """After `drain`: gives the shots for the times that are left before `until` seconds."""
        if self._every_frame:
            self._ask_latest(until)
            yield from self._shutter.close()
        else:
            for group in self._groups.finish():
                yield from self._settle(group, until)

    def _hold(self, packet: AnyPacket) -> TimedPacket | None:
        """The packet with its times; None if it bears none."""
        stamp, duration = packet.pts, packet.duration
        if stamp is None:
            return None
        begin = self._seconds(stamp)
        own = (duration or 0) * self._base[0] / self._base[1]
        held = TimedPacket(packet, begin, begin + own, packet.is_keyframe, packet.is_discard)
        self._ended |= HOLE_SECONDS < begin - self.end_seconds < math.inf
        if not held.hidden and not self._ended:
            self.end_seconds = max(self.end_seconds, begin + (own or self._frame_seconds))
        return held

    def _give_up_groups(self) -> Iterator[SampledFrame]:
        """A packet without a time has come: from here on every frame is decoded."""
        self._every_frame = True
        self._skip("DEFAULT")
        for ask in self._carried:
            self._shutter.ask(ask)
        for held in self._groups.release():
            yield from self._decode_in_order(held.packet)

    def _decode_in_order(self, packet: AnyPacket | None) -> Iterator[SampledFrame]:
        """Every frame is decoded; a time is settled when the first frame comes that is shown after it."""
        stamp = None if packet is None else packet.dts if packet.pts is None else packet.pts
        errors = self._media.errors
        frames = self._media.decoded(self._context.decode, packet)
        if stamp is not None and self._media.errors == errors:
            heapq.heappush(self._guessed, stamp)
        for frame in frames:
            shown = frame.dts if frame.pts is None else frame.pts
            if not self._media.has_times and self._guessed:  # AVI: the frame shown next takes the earliest stamp left
                shown = heapq.heappop(self._guessed)
            if shown is not None:
                begin = self._seconds(shown)
                self._ask_latest(begin)
                yield from self._shutter.show(begin, frame)
                own = frame.duration * self._base[0] / self._base[1]
                self.end_seconds = max(self.end_seconds, begin + (own or self._frame_seconds))

    def _ask_latest(self, until: float) -> None:
        """Asks the latest frame for all times before `until` seconds."""
        while self._upcoming + ROUNDING < until and self._shutter.latest is not None:
            self._shutter.ask(FrameRequest(self._upcoming, self._shutter.latest, self.end_seconds))
            self._upcoming = next(self._times, math.inf)

    def _settle(self, group: Gop, until: float) -> Iterator[SampledFrame]:
        asks = self._asks(group, min(group.until, until))
        for ask in asks:
            self._shutter.ask(ask)
        yield from self._decode(group, {ask.target for ask in asks})
        if group.last and (asks or not group.first):  # empty the decoder: the next group starts afresh
            self._skip("DEFAULT")
            yield from self._show(None)
            self._context.flush_buffers()
            yield from self._shutter.close()

    def _asks(self, group: Gop, until: float) -> list[FrameRequest]:
        """All times before `until` that have no frame yet, each with the frame to show for it."""
        asks, self._carried = self._carried, []
        if self._upcoming + ROUNDING >= until:
            return asks
        shown = group.shown() or [group.key]
        begins = [held.begin for held in shown]
        lasts = [*begins[1:], group.until] if self._media.is_indexed else [held.end for held in shown]
        while self._upcoming + ROUNDING < until:
            key = self._nearest_key(group, self._upcoming)
            if key is None:
                place = max(bisect_right(begins, self._upcoming + ROUNDING) - 1, 0)
                asks.append(FrameRequest(self._upcoming, begins[place], lasts[place]))
            else:
                (asks if key is group.key else self._carried).append(FrameRequest(self._upcoming, key.begin, math.inf))
            self._upcoming = next(self._times, math.inf)
        return asks

    def _nearest_key(self, group: Gop, time: float) -> TimedPacket | None:
        """The key frame nearest to a time, if sampling allows for one."""
        if self._reading.sampling == "exact":
            return None
        key = min([group.key, *group.after[:1]], key=lambda key: abs(key.begin - time))
        near = self._reading.sampling == "keyframe" or abs(key.begin - time) <= self._reading.tolerance
        return key if near else None

    def _decode(self, group: Gop, targets: set[float]) -> Iterator[SampledFrame]:
        """Decodes up to the last target, and of the frames that no other refers to only the targets."""
        packets = group.packets
        if not targets.isdisjoint(held.begin for held in group.after[1:]):
            packets = [*packets, *group.after]
        wanted = [held.begin in targets for held in packets]
        count = max((index + 1 for index, want in enumerate(wanted) if want), default=0)
        if not group.last:  # what follows may refer to any of it
            count = len(packets) if self._reading.sampling != "keyframe" else int(group.first)
        if self._fields and count:  # a target and its neighbours: one of them may be its other field
            count += 1
            wanted = [any(wanted[max(index - 1, 0) : index + 2]) for index in range(len(wanted))]
        for held, want in zip(packets[:count], wanted, strict=False):
            self._skip("DEFAULT" if want else "NONREF")
            yield from self._show(held.packet)

    def _show(self, packet: AnyPacket | None) -> Iterator[SampledFrame]:
        for frame in self._media.decoded(self._context.decode, packet):
            if frame.pts is not None:
                yield from self._shutter.show(self._seconds(frame.pts), frame)

    def _seconds(self, stamp: int) -> float:
        return stamp * self._base[0] / self._base[1] + self._shift

    def _skip(self, kind: Literal["DEFAULT", "NONREF"]) -> None:
        if kind != self._skipping:
            self._context.skip_frame = self._skipping = kind
