"""One timeline for the packets of a file whose clock may start anew, leap, or bear a stamp that is broken.

Recordings that were joined, DVD titles, counters that wrap around and live streams that were cut off start their time
stamps anew. All streams of the file do so at the same place and by the same step; that step is taken out, so that the
film goes on. A stream that leaps alone has a hole in it, or a picture that stays for long, and keeps its times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from av.packet import Packet
from av.stream import Stream

AnyPacket: TypeAlias = "Packet[Stream]"

BACK_SECONDS = 0.5  # a stamp that falls back by more is a new clock, or broken
LEAP_SECONDS = 5.0  # one that is further ahead is believed when the next one of its stream bears it out
BREAK_SECONDS = 10.0  # leaps of all streams to one place, from which on the time between is taken out
MEANT_SECONDS = 600.0  # the same in a file that lists every frame, where a long time between two is meant
HELD_PACKETS = 4096  # of a stream that has leapt, until it is known whether the others do


@dataclass
class _Stream:
    """What is known of one stream: seconds on the repaired timeline."""

    unit: float  # seconds of one tick
    rises: bool  # whether its stamps only ever rise; else they are those of display, which B-frames reorder
    epoch: int = 0  # which of the clock's offsets holds for it
    begin: float = math.nan  # of the packet before
    end: float = -math.inf  # ... of all packets so far, with their durations
    own: float = 0.0  # seconds that the latest packet lasts whose duration is not stretched to reach over a leap
    due: float = -math.inf  # as `end`, with no other durations
    doubtful: AnyPacket | None = None  # its stamp is far from where it should be; the next one decides
    leapt: list[AnyPacket] = field(default_factory=list)  # ahead of the others, until it is known whether they follow

    def stamp(self, packet: AnyPacket) -> int | None:
        return packet.dts if self.rises else packet.pts

    def raw(self, packet: AnyPacket) -> float:
        """Seconds as the file has them; nan where it has none."""
        stamp = self.stamp(packet)
        return math.nan if stamp is None else stamp * self.unit


class Clock:
    """Gives packets stamps that go on from each other. It is fed all packets of its streams, in file order.

    `breaks` counts the places where the clock began anew, `repaired` the stamps that gave way to the one that was due.
    """

    def __init__(self, streams: Iterable[Stream], *, stores_dts: bool, lists_every_frame: bool) -> None:
        self.repaired = 0
        self._offsets = [0.0]  # seconds added to the file's own time, epoch by epoch
        self._streams = {
            stream.index: _Stream(float(stream.time_base or 1), rises=stores_dts or stream.type == "audio")
            for stream in streams
        }
        self._break_seconds = MEANT_SECONDS if lists_every_frame else BREAK_SECONDS
        self._most_own = LEAP_SECONDS if lists_every_frame else math.inf  # MP4 stretches what comes before a leap
        self._any_leapt = False

    @property
    def breaks(self) -> int:
        return len(self._offsets) - 1

    def end(self, index: int, *, held: bool = False) -> float:
        """Seconds at which a stream's packets end, so far as they are certain, or as they are held; -inf before any."""
        stream = self._streams[index]
        waiting = stream.leapt[-1] if stream.leapt else stream.doubtful
        if not held or waiting is None:
            return stream.end
        begin = stream.raw(waiting) + self._offsets[stream.epoch]
        return max(stream.end, begin + (waiting.duration or 0) * stream.unit)

    def push(self, packet: AnyPacket) -> Iterable[AnyPacket]:
        """The packets, this one or earlier ones, whose stamps have become certain."""
        stream = self._streams[packet.stream_index]
        if stream.leapt:
            stream.leapt.append(packet)
            return self._release(stream) if len(stream.leapt) > HELD_PACKETS else ()
        return self._judge(stream, packet) if stream.doubtful is None else self._decide(stream, packet)

    def finish(self) -> Iterator[AnyPacket]:
        """No more packets will come: those still held."""
        for stream in self._streams.values():
            yield from self._release(stream)
            if (packet := stream.doubtful) is not None:
                stream.doubtful = None
                if stream.raw(packet) + self._offsets[stream.epoch] < stream.begin:
                    self._restamp(stream, packet)
                yield self._accept(stream, packet)

    def _judge(self, stream: _Stream, packet: AnyPacket) -> Iterable[AnyPacket]:
        time = stream.raw(packet) + self._offsets[stream.epoch]
        if stream.rises:
            if time < stream.begin - BACK_SECONDS or time > stream.due + LEAP_SECONDS > -math.inf:
                stream.doubtful = packet
                return ()
        elif time > stream.due + self._break_seconds > -math.inf and self._is_alone(stream, time):
            stream.leapt, self._any_leapt = [packet], True
            return self._bridge()
        else:
            self._follow(stream, time)
        accepted = self._accept(stream, packet)
        return self._release_reached(accepted, stream) if self._any_leapt else (accepted,)

    def _decide(self, stream: _Stream, packet: AnyPacket) -> Iterator[AnyPacket]:
        """The packet behind a doubtful one has come: either it goes on from there, or that stamp was broken."""
        doubtful, stream.doubtful = stream.doubtful, None
        assert doubtful is not None
        offset = self._offsets[stream.epoch]
        first, second = stream.raw(doubtful) + offset, stream.raw(packet) + offset
        if not abs(second - first) < abs(second - stream.due):
            self._restamp(stream, doubtful)
        elif first < stream.begin:
            self._begin_anew(stream, first - offset)
        elif first - stream.due > self._break_seconds and self._is_alone(stream, first):
            stream.leapt, self._any_leapt = [doubtful, packet], True
            yield from self._bridge()
            return
        yield self._accept(stream, doubtful)
        yield from self._judge(stream, packet)

    def _begin_anew(self, stream: _Stream, raw: float) -> None:
        """A stream's clock has fallen back: by the step that another stream took before, or it is the first."""
        latest = max(other.end for other in self._streams.values())
        for epoch in range(stream.epoch + 1, len(self._offsets)):
            if stream.end - LEAP_SECONDS < raw + self._offsets[epoch] < latest + LEAP_SECONDS:
                stream.epoch = epoch
                return
        self._offsets.append(latest - raw)
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

    def _bridge(self) -> Iterator[AnyPacket]:
        """Where every stream has leapt to one place, the time that they leapt over is taken out."""
        begun = [stream for stream in self._streams.values() if stream.end > -math.inf]
        if not all(stream.leapt for stream in begun):
            return
        firsts = [stream.raw(stream.leapt[0]) + self._offsets[stream.epoch] for stream in begun]
        if max(firsts) - min(firsts) < self._break_seconds / 2:
            step = max(stream.due for stream in begun) - min(firsts)
            self._offsets.append(self._offsets[begun[0].epoch] + step)
            for stream in begun:
                stream.epoch, stream.end = self.breaks, stream.due
        for stream in begun:
            yield from self._release(stream)

    def _release_reached(self, accepted: AnyPacket, stream: _Stream) -> Iterator[AnyPacket]:
        """This stream went on from where it was; those whose leap it has come near by that have leapt alone."""
        yield accepted
        for other in self._streams.values():
            if other.leapt and not self._is_alone(other, other.raw(other.leapt[0]) + self._offsets[other.epoch]):
                yield from self._release(other)

    def _release(self, stream: _Stream) -> Iterator[AnyPacket]:
        held, stream.leapt = stream.leapt, []
        self._any_leapt = any(other.leapt for other in self._streams.values())
        for number, packet in enumerate(held):
            if number:
                yield from self.push(packet)
            else:
                yield self._accept(stream, packet)

    def _accept(self, stream: _Stream, packet: AnyPacket) -> AnyPacket:
        """The packet, moved to the repaired timeline."""
        if offset := self._offsets[stream.epoch]:
            ticks = round(offset / stream.unit)
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks
        stamp = stream.stamp(packet)
        if self._most_own < math.inf and packet.pts is not None and stamp is not None:
            over = (packet.pts - stamp) * stream.unit > self._break_seconds  # a leap with B-frames on both sides stays
            self._break_seconds = math.inf if over else self._break_seconds
        if stamp is not None:
            stream.begin = stamp * stream.unit
            own = (packet.duration or 0) * stream.unit
            stream.end = max(stream.end, stream.begin + own)
            stream.own = own if own <= self._most_own else stream.own
            stream.due = max(stream.due, stream.begin + stream.own)
        return packet

    def _restamp(self, stream: _Stream, packet: AnyPacket) -> None:
        """A broken stamp gives way to the one that is due. The packet stays: others may refer to it."""
        due = round((stream.end - self._offsets[stream.epoch]) / stream.unit)
        delay = 0 if packet.dts is None or packet.pts is None else packet.pts - packet.dts
        packet.dts, packet.pts = due, due + (delay if 0 <= delay * stream.unit < LEAP_SECONDS else 0)
        self.repaired += 1
