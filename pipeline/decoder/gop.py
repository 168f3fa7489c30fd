"""Groups of pictures (GOPs): a stream's packets, held undecoded until it is certain which of them a GOP shows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from shards.media.clock import AnyPacket

MAX_HELD_PACKETS = 4096
MAX_HELD_BYTES = 64 * 2**20
WRONG_SECONDS = 0.5  # by which a stamp is off that is not believed
REORDERED = 16  # frames at most that a codec decodes before they are shown
UNEVEN = 1.25  # by which one gap between frames is longer than another, and not by rounding
REORDER_PACKETS = 64  # no codec shows a frame before one that comes so many packets later


@dataclass(slots=True)
class TimedPacket:
    """A packet, and the seconds of the media's timeline at which its frame is shown and at which that ends."""

    packet: AnyPacket
    begin: float
    end: float
    key: bool
    hidden: bool  # an edit list hides it: decoded only because others refer to it


@dataclass(frozen=True)
class Gop:
    """A key frame and what follows it in decoding order up to the next one; or a part of that, where it is very long.

    In an open GOP the pictures that stand directly behind the next key frame are shown before it. They belong to this
    GOP's time and are decoded after it: `after` holds that key frame and them; `behind`, the packets that come next.
    """

    key: TimedPacket
    packets: list[TimedPacket]
    after: list[TimedPacket]
    until: float  # seconds; what is shown from then on belongs to the next GOP
    behind: list[TimedPacket] = field(default_factory=list)
    first: bool = True  # nothing of this GOP was given out before
    last: bool = True  # nothing of it is to follow

    @property
    def is_doubtful(self) -> bool:
        """Whether a stamp, mostly that of the next key frame, may be wrong by what the others say.

        What is decoded in front of a key frame and behind its leading pictures is shown so too. A frame that stands
        elsewhere leaves a place empty, and crowds another. Which frame it is only the decoder's order tells.
        """
        if not self.first or not self.after:
            return False
        key, *leading = (timed.begin for timed in self.after)
        behind = [timed.begin for timed in self.behind]
        latest = max(timed.begin for timed in self.packets)
        if latest > key or any(begin < key for begin in behind):
            return True
        if leading and min(leading) - latest > UNEVEN * (min(behind, default=math.inf) - max(leading)):
            return True
        shown = [timed.begin for timed in self.shown() or [self.key]]
        gaps = sorted(after - before for before, after in itertools.pairwise([*shown, key]))
        usual = gaps[len(gaps) // 2]
        uneven = [gap for gap in gaps if not usual / UNEVEN < gap < usual * UNEVEN]
        return 0 < len(uneven) <= 3 and min(uneven) < 0.6 * usual and max(uneven) > 1.5 * usual

    def misplaced(self) -> list[TimedPacket]:
        """Those with a stamp that cannot be: before the key frame, behind the next one, or far ahead of what follows.

        In decoding order a frame stands at most REORDERED before one that is shown earlier.
        """
        begins = [timed.begin for timed in self.packets]
        low, high = self.key.begin - WRONG_SECONDS, self.until + WRONG_SECONDS
        found = []
        for place, (begin, timed) in enumerate(zip(begins, self.packets, strict=True)):
            following = begins[place + REORDERED + 1 : place + 2 * REORDERED + 2]
            ahead = bool(following) and begin > max(following) + WRONG_SECONDS
            if not timed.hidden and (ahead or not low <= begin <= high):
                found.append(timed)
        return found

    def shown(self) -> list[TimedPacket]:
        """Its pictures in the order of display."""
        pictures = [packet for packet in [*self.packets, *self.after[1:]] if not packet.hidden]
        return sorted(pictures, key=lambda packet: packet.begin)


class GopSplitter:
    """Splits packets into GOPs. One is complete a few packets behind those that are shown before the next key frame.

    No more than a fixed number of packets and bytes is held: a longer GOP is given out in parts.
    """

    def __init__(self) -> None:
        self._key: TimedPacket | None = None
        self._packets: list[TimedPacket] = []
        self._bytes = 0
        self._after: list[TimedPacket] = []
        self._leading_bytes = 0  # of `_after`
        self._behind: list[TimedPacket] = []
        self._first = True

    def push(self, timed: TimedPacket) -> list[Gop]:
        """Takes the next packet, the first of all being a key frame; gives the GOPs that it completes."""
        complete: list[Gop] = []
        if timed.key and self._key is not None:
            if self._after:
                complete.append(self._complete(timed))
            self._after, self._leading_bytes = [timed], 0
        elif self._after and not self._behind and self._is_leading(timed):
            self._after.append(timed)
            self._leading_bytes += timed.packet.size
        elif self._after:
            self._behind.append(timed)
            if len(self._behind) == REORDERED:
                complete.append(self._complete())
        else:
            self._key = self._key or timed
            self._packets.append(timed)
            self._bytes += timed.packet.size
            if len(self._packets) > MAX_HELD_PACKETS or self._bytes > MAX_HELD_BYTES:
                complete.append(self._part())
        return complete

    def _is_leading(self, timed: TimedPacket) -> bool:
        """Whether it is shown before the next key frame. That of one stamped far ahead would be all that follows."""
        is_full = len(self._after) >= MAX_HELD_PACKETS or self._leading_bytes > MAX_HELD_BYTES
        return timed.begin < self._after[0].begin and not is_full

    def finish(self) -> list[Gop]:
        """The GOPs that are left at the stream's end."""
        complete = [self._complete()] if self._after else []
        if self._key is not None:
            complete.append(Gop(self._key, self._packets, [], math.inf, first=self._first))
        return complete

    def release(self) -> list[TimedPacket]:
        """All packets still held, in decoding order, for a reader that gives up on GOPs."""
        packets = [*self._packets, *self._after, *self._behind]
        self._packets, self._after, self._behind = [], [], []
        return packets

    def _complete(self, *following: TimedPacket) -> Gop:
        """This GOP. The next one goes on without the leading pictures, which nothing behind them refers to."""
        assert self._key is not None
        behind = [*self._behind, *following]
        gop = Gop(self._key, self._packets, self._after, self._after[0].begin, behind, first=self._first)
        self._key = self._after[0]
        self._packets, self._after, self._behind, self._first = [self._key, *self._behind], [], [], True
        self._bytes = sum(timed.packet.size for timed in self._packets)
        return gop

    def _part(self) -> Gop:
        """All but the latest packets, cut where everything behind the cut is shown after everything in front of it."""
        assert self._key is not None
        begins = [timed.begin for timed in self._packets]
        earliest_from = list(itertools.accumulate(reversed(begins), min))[::-1]
        latest_before = list(itertools.accumulate(begins, max))
        latest_cut = len(begins) - REORDER_PACKETS
        clean = (cut for cut in range(latest_cut, 0, -1) if latest_before[cut - 1] < earliest_from[cut])
        cut = next(clean, latest_cut)
        packets, self._packets = self._packets[:cut], self._packets[cut:]
        part = Gop(self._key, packets, [], earliest_from[cut], first=self._first, last=False)
        self._bytes, self._first = sum(timed.packet.size for timed in self._packets), False
        return part
