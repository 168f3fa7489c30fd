"""The frames displayed at given times, from one stream's packets in file order.

Groups of pictures in which no asked-for time lies are never decoded; the others are decoded up to the last frame asked for,
without the frames that no other frame refers to. No seeking, no index.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal

from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.groups import Group, Groups
from pipeline.reading import Reading
from pipeline.shots import Ask, Shot, Shutter
from pipeline.view import View
from shards.media import HOLE_SECONDS, MediaFile

ROUNDING = 1e-6  # seconds; asked times are sums of floats


class PictureTrack:
    """Fed a stream's packets from a key frame on; gives one Shot for each of the ascending `times`, in their order."""

    def __init__(
        self,
        media: MediaFile,
        stream: VideoStream,
        views: Sequence[View],
        reading: Reading,
        times: Iterator[float],
        reach: float,
    ) -> None:
        self.ended = False  # after a leap of HOLE_SECONDS nothing more is taken
        self.end_seconds = -math.inf  # where the packets seen so far end
        self._media, self._stream, self._reading = media, stream, reading
        self._times = times
        self._upcoming = next(times, math.inf)
        self._shutter = Shutter(stream, views, reading.max_pixels, reach)
        self._groups = Groups()
        self._carried: list[Ask] = []  # to be answered by the next group's key frame
        self._skipping: Literal["DEFAULT", "NONREF"] = "DEFAULT"
        self._every_frame = not media.has_times  # only the decoder knows when each frame is shown
        self._fields = stream.codec_context.field_order > 1  # interlaced: two packets may make one frame
        rate = stream.average_rate
        self._frame_duration = 1 / (rate * stream.time_base) if rate else 0  # for packets that do not know theirs

    @property
    def done(self) -> bool:
        """Whether every one of a finite list of times has its shot."""
        return self._upcoming == math.inf and not self._carried and not self._shutter.waiting

    def push(self, packet: Packet) -> Iterator[Shot]:
        """Takes the next packet; gives the shots that have become certain."""
        if self._leaps(packet):
            return
        if not self._every_frame and packet.pts is None:
            self._every_frame = True
            for held in self._groups.release():
                yield from self._decode_in_order(held)
        if self._every_frame:
            yield from self._decode_in_order(packet)
            return
        for group in self._groups.push(packet):
            yield from self._settle(group, math.inf)

    def finish(self, until: float) -> Iterator[Shot]:
        """No more packets will come; gives the shots for all times before `until` seconds."""
        if self._every_frame:
            yield from self._decode_in_order(None)
            self._ask_latest(until)
            yield from self._shutter.close()
        else:
            for group in self._groups.finish():
                yield from self._settle(group, until)

    def _leaps(self, packet: Packet) -> bool:
        if packet.pts is not None and not self.ended:
            ahead = self._shutter.seconds(packet.pts) - self.end_seconds
            if HOLE_SECONDS < ahead < math.inf:
                self.ended = True
            else:
                end = self._shutter.seconds(packet.pts + (packet.duration or self._frame_duration))
                self.end_seconds = max(self.end_seconds, end)
        return self.ended

    def _decode_in_order(self, packet: Packet | None) -> Iterator[Shot]:
        """Every frame is decoded; a time is settled when the first frame comes that is shown after it."""
        for frame in self._media.decode(self._stream, packet):
            if frame.pts is None:
                continue
            begin = self._shutter.seconds(frame.pts)
            self._ask_latest(begin)
            yield from self._shutter.show(frame)
            self.end_seconds = max(self.end_seconds, self._shutter.seconds(frame.pts + (frame.duration or 0)))

    def _ask_latest(self, until: float) -> None:
        """Asks the latest frame for all times before `until` seconds."""
        latest = self._shutter.latest
        while self._upcoming + ROUNDING < until and latest is not None:
            lasts = self._shutter.seconds(latest.pts + (latest.duration or self._frame_duration))
            self._shutter.ask(Ask(self._upcoming, latest.pts, lasts))
            self._upcoming = next(self._times, math.inf)

    def _settle(self, group: Group, until: float) -> Iterator[Shot]:
        asks = self._asks(group, until if group.until is None else self._shutter.seconds(group.until))
        for ask in asks:
            self._shutter.ask(ask)
        yield from self._decode(group, {ask.target for ask in asks})
        if group.last:
            yield from self._close(decoded=bool(asks) or not group.first)

    def _asks(self, group: Group, until: float) -> list[Ask]:
        """All times that fall to this group, with the frames to show for them."""
        asks, self._carried = self._carried, []
        if self._upcoming + ROUNDING >= until:
            return asks
        lasts = {packet.pts: packet.pts + (packet.duration or 0) for packet in [*group.packets, *group.after[1:]]}
        shown = group.shown or [group.key.pts]
        while self._upcoming + ROUNDING < until:
            ask = self._nearest_key(group, self._upcoming)
            if ask is None:
                stamp = math.floor((self._upcoming + ROUNDING) / self._stream.time_base)
                target = shown[max(bisect_right(shown, stamp) - 1, 0)]
                ask = Ask(self._upcoming, target, self._shutter.seconds(lasts[target]))
            (self._carried if ask.target == group.until and group.after else asks).append(ask)
            self._upcoming = next(self._times, math.inf)
        return asks

    def _nearest_key(self, group: Group, seconds: float) -> Ask | None:
        """The key frame nearest to a time, if sampling allows for one."""
        if self._reading.sampling == "exact":
            return None
        keys = [group.key, *group.after[:1]]
        key = min(keys, key=lambda key: abs(self._shutter.seconds(key.pts) - seconds))
        if (
            self._reading.sampling == "keyframe"
            or abs(self._shutter.seconds(key.pts) - seconds) <= self._reading.tolerance
        ):
            return Ask(seconds, key.pts, math.inf)
        return None

    def _decode(self, group: Group, targets: set[int]) -> Iterator[Shot]:
        """Decodes up to the last target, and of the frames that no other refers to only the targets."""
        packets = group.packets
        if targets.intersection(packet.pts for packet in group.after[1:]):
            packets = [*packets, *group.after]
        count = max((index + 1 for index, packet in enumerate(packets) if packet.pts in targets), default=0)
        if not group.last and self._reading.sampling != "keyframe":
            count = len(packets)  # what follows may refer to any of it
        elif not group.last and group.first:
            count = 1
        wanted = [packet.pts in targets for packet in packets]
        if self._fields and count:  # a target and its two neighbours: one of them may be its other field
            count += 1
            wanted = [any(wanted[max(index - 1, 0) : index + 2]) for index in range(len(wanted))]
        for packet, whole in zip(packets[:count], wanted, strict=False):
            self._skip("DEFAULT" if whole else "NONREF")
            yield from self._show(packet)

    def _close(self, decoded: bool) -> Iterator[Shot]:
        """The group is over: empties the decoder, so that the next group starts afresh."""
        if decoded:
            self._skip("DEFAULT")
            yield from self._show(None)
            self._stream.codec_context.flush_buffers()
        yield from self._shutter.close()

    def _show(self, packet: Packet | None) -> Iterator[Shot]:
        for frame in self._media.decode(self._stream, packet):
            if frame.pts is not None:
                yield from self._shutter.show(frame)

    def _skip(self, kind: Literal["DEFAULT", "NONREF"]) -> None:
        if kind != self._skipping:
            self._stream.codec_context.skip_frame = self._skipping = kind
