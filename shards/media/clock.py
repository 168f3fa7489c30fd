"""One timeline for the packets of a file whose clock may start anew, leap, or bear a stamp that is broken.

Recordings that were joined, DVD titles, counters that wrap around and live streams that were cut off start their time
stamps anew. All streams of the file do so at the same place and by the same step; that step is taken out, so that the
film goes on. A stream that leaps alone has a hole in it, or a picture that stays for long, and keeps its times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from av.packet import Packet
from av.stream import Stream

AnyPacket: TypeAlias = "Packet[Stream]"

BACK_SECONDS = 0.5  # a stamp that is off by more, either way, is a new clock, a hole, or broken
BORNE_OUT_SECONDS = 2.0  # of packets that go on from it, for which it is believed: those of one broken PES are fewer
LEAP_SECONDS = 5.0  # between two packets that go on from each other; MP4's stamps are sums, and doubted from here on
BREAK_SECONDS = 10.0  # leaps of all streams to one place, from which on the time between is taken out
MEANT_SECONDS = 600.0  # the same in a file that lists every frame, where a long time between two is meant
HELD_PACKETS = 4096  # of a stream that has leapt, until it is known whether the others do
REORDERED = 16  # frames at most that a codec decodes before they are shown


@dataclass
class _Stream:
    """What is known of one stream: seconds on the repaired timeline."""

    unit: float  # seconds of one tick
    rises: bool  # whether its stamps only ever rise; else they are those of display, which B-frames reorder
    epoch: int = 0  # which of the clock's offsets holds for it
    border: float = -math.inf  # in the file's own seconds: what B-frames bring from before a leap still has ...
    before: float = 0.0  # ... this offset
    begin: float = math.nan  # of the packet before
    fell_to: float = math.inf  # begin of the latest packet that was earlier than the one before it
    end: float = -math.inf  # ... of all packets so far, with their durations
    own: float = 0.0  # seconds that the latest packet lasts whose duration is believed: MP4 stretches it over a leap
    longest: float = 0.0  # between two packets
    due: float = -math.inf  # as `end`, with no other durations
    doubtful: list[AnyPacket] = field(default_factory=list)  # far from where they should be; the next ones decide
    leapt: list[AnyPacket] = field(default_factory=list)  # ahead of the others, until it is known whether they follow

    @property
    def lowest(self) -> float:
        """The least time of a next packet that goes on from those so far."""
        if self.rises:
            return self.begin - BACK_SECONDS
        return self.end - max(LEAP_SECONDS, REORDERED * self.longest)

    def stamp(self, packet: AnyPacket) -> int | None:
        return packet.dts if self.rises and packet.dts is not None else packet.pts

    def raw(self, packet: AnyPacket) -> float:
        """Seconds as the file has them; nan where it has none."""
        return self.seconds(self.stamp(packet))

    def seconds(self, stamp: int | None) -> float:
        return math.nan if stamp is None else stamp * self.unit


class Clock:
    """Gives packets stamps that go on from each other. It is fed all packets of its streams, in file order.

    `breaks` counts the places where the clock began anew, and `break_seconds` is how far it went there in all;
    `repaired` counts the stamps that gave way to the one that was due.
    """

    def __init__(self, streams: Iterable[Stream], *, stores_dts: bool, lists_every_frame: bool) -> None:
        self.repaired = 0
        self._offsets = [0.0]  # seconds added to the file's own time, epoch by epoch
        self._streams = {
            stream.index: _Stream(float(stream.time_base or 1), rises=stores_dts or stream.type == "audio")
            for stream in streams
        }
        self._lists_every_frame = lists_every_frame
        self._break_seconds = MEANT_SECONDS if lists_every_frame else BREAK_SECONDS
        self._doubt_seconds = LEAP_SECONDS if lists_every_frame else BACK_SECONDS
        self._any_leapt = False

    @property
    def breaks(self) -> int:
        return len(self._offsets) - 1

    @property
    def _latest(self) -> float:
        return max(stream.end for stream in self._streams.values())

    @property
    def break_seconds(self) -> float:
        return sum(abs(after - before) for before, after in itertools.pairwise(self._offsets))

    def end(self, index: int, *, held: bool = False) -> float:
        """Seconds at which a stream's packets end, so far as they are certain, or as they are held; -inf before any."""
        stream = self._streams[index]
        waiting = stream.leapt or stream.doubtful
        if not held or not waiting:
            return stream.end
        begin = self._time(stream, stream.stamp(waiting[-1]))
        return max(stream.end, begin + (waiting[-1].duration or 0) * stream.unit)

    def longest(self, index: int) -> float:
        """Seconds at most between two packets of a stream; inf where it has had but one."""
        return self._streams[index].longest or math.inf

    def push(self, packet: AnyPacket) -> Iterable[AnyPacket]:
        """The packets, this one or earlier ones, whose stamps have become certain."""
        stream = self._streams[packet.stream_index]
        if stream.leapt:
            stream.leapt.append(packet)
            if len(stream.leapt) == 2 * REORDERED and not self._is_borne_out(stream):
                return self._release(stream, restamped=True)
            return self._release(stream) if len(stream.leapt) > HELD_PACKETS else ()
        return self._decide(stream, packet) if stream.doubtful else self._judge(stream, packet)

    def finish(self) -> Iterator[AnyPacket]:
        """No more packets will come: those still held."""
        for stream in self._streams.values():
            while stream.leapt or stream.doubtful:
                if stream.leapt:
                    yield from self._release(stream, restamped=not self._is_borne_out(stream))
                else:
                    first = self._time(stream, stream.stamp(stream.doubtful[0]))
                    reached = stream.begin <= first <= stream.due + LEAP_SECONDS or self._is_reached(stream, first)
                    yield from self._settle(stream, believed=reached)

    def _judge(self, stream: _Stream, packet: AnyPacket) -> Iterable[AnyPacket]:
        time = self._time(stream, stream.stamp(packet))
        ahead = stream.rises and time > stream.due + self._doubt_seconds > -math.inf
        if ahead or time < stream.lowest:
            stream.doubtful = [packet]
            return ()
        shown = self._time(stream, packet.pts)  # where B-frames are reordered a leap is seen here first
        if shown > stream.due + self._break_seconds > -math.inf and self._is_alone(stream, shown):
            stream.leapt, self._any_leapt = [packet], True
            return self._bridge()
        if not stream.rises:
            self._follow(stream, time)
        accepted = self._accept(stream, packet)
        return self._release_reached(accepted, stream) if self._any_leapt else (accepted,)

    def _decide(self, stream: _Stream, packet: AnyPacket) -> Iterator[AnyPacket]:
        """The packet behind doubtful ones has come: either it goes on from there, or their stamps were broken."""
        held = stream.doubtful
        first, last, time = (self._time(stream, stream.stamp(each)) for each in (held[0], held[-1], packet))
        nearer = abs(time - last) < abs(time - stream.due - (last - first))
        if nearer and -BACK_SECONDS <= time - last <= LEAP_SECONDS:
            held.append(packet)
            if time - first >= BORNE_OUT_SECONDS or len(held) > HELD_PACKETS:
                yield from self._settle(stream, believed=True)
            return
        yield from self._settle(stream, believed=nearer and self._is_reached(stream, first))
        yield from self.push(packet)

    def _settle(self, stream: _Stream, *, believed: bool) -> Iterator[AnyPacket]:
        """The packets that were doubtful, as their stamps say or as they are due."""
        held, stream.doubtful = stream.doubtful, []
        if not believed:
            for packet in held:
                self._restamp(stream, packet)
                yield self._accept(stream, packet)
            return
        first = self._time(stream, stream.stamp(held[0]))
        if first < stream.begin and not self._is_abreast(stream, first, self._time(stream, stream.stamp(held[-1]))):
            self._begin_anew(stream, stream.raw(held[0]))
        elif first - stream.due > self._break_seconds and self._is_alone(stream, first):
            stream.leapt, self._any_leapt = held, True
            yield from self._bridge()
            return
        yield self._accept(stream, held[0])
        for packet in held[1:]:
            yield from self.push(packet)

    def _is_abreast(self, stream: _Stream, first: float, last: float) -> bool:
        """Whether another stream has come to these times by itself: both have fallen back, and that one by too little.

        It has come to the last of a stream that has fallen back; or, where it is ahead in the file, fell to the first.
        """
        others = [other for other in self._streams.values() if other is not stream and other.epoch == stream.epoch]
        near = (min(abs(other.begin - last), abs(other.fell_to - first)) for other in others if not other.doubtful)
        return any(seconds < BACK_SECONDS for seconds in near)

    def _begin_anew(self, stream: _Stream, raw: float) -> None:
        """A stream's clock has fallen back: by the step that another stream took before, or it is the first."""
        stream.border = -math.inf
        for epoch in range(stream.epoch + 1, len(self._offsets)):
            if stream.end - LEAP_SECONDS < raw + self._offsets[epoch] < self._latest + LEAP_SECONDS:
                stream.epoch = epoch
                return
        fallen = [
            other.end - other.raw(other.doubtful[0])
            for other in self._streams.values()
            if other.doubtful and self._time(other, other.stamp(other.doubtful[0])) < other.begin
        ]
        self._offsets.append(max(stream.end - raw, *fallen) if fallen else self._latest - raw)
        stream.epoch = self.breaks

    def _follow(self, stream: _Stream, time: float) -> None:
        """Stamps that B-frames reorder open no epoch; they enter one that fits them where their own does not."""
        if abs(time - stream.end) <= LEAP_SECONDS or stream.epoch == self.breaks:
            return
        step = self._offsets[stream.epoch + 1] - self._offsets[stream.epoch]
        if abs(time + step - stream.end) < abs(time - stream.end):
            stream.epoch += 1

    def _is_alone(self, stream: _Stream, time: float) -> bool:
        """Whether no other stream has come near a time that this one leaps to."""
        others = [other for other in self._streams.values() if other is not stream and other.end > -math.inf]
        return bool(others) and all(other.due < time - self._break_seconds / 2 for other in others)

    def _is_reached(self, stream: _Stream, time: float) -> bool:
        """Whether a time ahead may be meant, though the next packet is far behind it, or none comes, as with slides."""
        others = [other for other in self._streams.values() if other is not stream and other.leapt]
        led = any(abs(time - self._leapt_to(other)) < self._break_seconds / 2 for other in others)
        return self._lists_every_frame or (time > stream.due and (led or not self._is_alone(stream, time)))

    def _bridge(self) -> Iterator[AnyPacket]:
        """Where every stream has leapt to one place, the time that they leapt over is taken out."""
        begun = [stream for stream in self._streams.values() if stream.end > -math.inf]
        if not all(stream.leapt for stream in begun):
            return
        firsts = [self._leapt_to(stream) for stream in begun]
        if max(firsts) - min(firsts) < self._break_seconds / 2:
            before = self._offsets[begun[0].epoch]
            self._offsets.append(before + max(stream.due for stream in begun) - min(firsts))
            for stream in begun:
                stream.border, stream.before = min(firsts) - before - self._break_seconds / 2, before
                stream.epoch, stream.end = self.breaks, stream.due
        for stream in begun:
            yield from self._release(stream)

    def _release_reached(self, accepted: AnyPacket, stream: _Stream) -> Iterator[AnyPacket]:
        """This stream went on from where it was; those whose leap it has come near by that have leapt alone."""
        yield accepted
        for other in self._streams.values():
            if other.leapt and not self._is_alone(other, self._leapt_to(other)):
                yield from self._release(other)

    def _leapt_to(self, stream: _Stream) -> float:
        first = stream.leapt[0]
        return max(self._time(stream, stamp) for stamp in (first.pts, stream.stamp(first)) if stamp is not None)

    def _is_borne_out(self, stream: _Stream) -> bool:
        """Whether a leap is seen in the packets behind it too; some of them may be B-frames from before."""
        first = self._leapt_to(stream)
        near = sum(abs(self._time(stream, packet.pts) - first) <= self._break_seconds for packet in stream.leapt)
        return self._lists_every_frame or near > len(stream.leapt) / 3

    def _release(self, stream: _Stream, *, restamped: bool = False) -> Iterator[AnyPacket]:
        held, stream.leapt = stream.leapt, []
        self._any_leapt = any(other.leapt for other in self._streams.values())
        if restamped:
            self._restamp(stream, held[0])
        for number, packet in enumerate(held):
            if number:
                yield from self.push(packet)
            else:
                yield self._accept(stream, packet)

    def _time(self, stream: _Stream, stamp: int | None) -> float:
        """Seconds on the repaired timeline; nan without a stamp."""
        return stream.seconds(stamp) + self._offset(stream, stamp)

    def _offset(self, stream: _Stream, stamp: int | None) -> float:
        return stream.before if stream.seconds(stamp) < stream.border else self._offsets[stream.epoch]

    def _accept(self, stream: _Stream, packet: AnyPacket) -> AnyPacket:
        """The packet, moved to the repaired timeline."""
        seconds, lasts = stream.raw(packet), (packet.duration or 0) * stream.unit
        if seconds < stream.border < seconds + lasts:
            packet.duration = round(stream.own / stream.unit)
        if not self._lists_every_frame and stream.rises and stream.seconds(packet.pts) < seconds - BACK_SECONDS:
            packet.pts = packet.dts
            self.repaired += 1
        if self.breaks:
            packet.dts, packet.pts = (
                None if stamp is None else stamp + round(self._offset(stream, stamp) / stream.unit)
                for stamp in (packet.dts, packet.pts)
            )
        stamp = stream.stamp(packet)
        if stamp is not None:
            stream.longest = max(stream.longest, stamp * stream.unit - stream.begin)  # the first is nan
            if stream.rises and stamp * stream.unit < stream.begin:
                stream.fell_to = stamp * stream.unit
            stream.begin = stamp * stream.unit
            own = (packet.duration or 0) * stream.unit
            stream.own = own if own <= LEAP_SECONDS or not stream.rises else stream.own
            stream.end = max(stream.end, stream.begin + (own if self._lists_every_frame else stream.own))
            stream.due = max(stream.due, stream.begin + stream.own)
        return packet

    def _restamp(self, stream: _Stream, packet: AnyPacket) -> None:
        """A broken stamp gives way to the one that is due. The packet stays: others may refer to it."""
        due = round((stream.due - self._offsets[stream.epoch]) / stream.unit)
        delay = 0 if packet.dts is None or packet.pts is None else packet.pts - packet.dts
        packet.dts, packet.pts = due, due + (delay if 0 <= delay * stream.unit < LEAP_SECONDS else 0)
        self.repaired += 1
