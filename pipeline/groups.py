"""Groups of pictures: a video stream's packets, held undecoded until it is certain which of them a group shows."""

from __future__ import annotations

from dataclasses import dataclass

from av.packet import Packet

MAX_HELD_PACKETS = 4096
MAX_HELD_BYTES = 64 * 2**20
REORDER_PACKETS = 64  # no codec shows a frame before one that comes so many packets later


@dataclass(frozen=True)
class Group:
    """A key frame and what follows it in decoding order, up to the next key frame; or a part of that, where it is very long.

    In an open group the pictures that stand directly behind the next key frame are shown before it. They belong to this
    group's time and are decoded after it: `after` holds that key frame and them.
    """

    key: Packet
    packets: list[Packet]
    after: list[Packet]
    until: int | None  # what is shown at this time stamp and later belongs to the next group; None at the stream's end
    first: bool = True  # nothing of this group was given out before
    last: bool = True  # nothing of it is to follow

    @property
    def shown(self) -> list[int]:
        """Time stamps of its pictures in display order, without those that an edit list hides."""
        return sorted(packet.pts for packet in [*self.packets, *self.after[1:]] if not packet.is_discard)


class Groups:
    """Sorts packets into groups. A group is complete when the first packet comes that is shown after the next key frame.

    Never more than a fixed number of packets and bytes are held: a longer group is given out in parts.
    """

    def __init__(self) -> None:
        self._key: Packet | None = None
        self._packets: list[Packet] = []
        self._bytes = 0
        self._after: list[Packet] = []
        self._first = True

    def push(self, packet: Packet) -> list[Group]:
        """Takes the next packet (with a time stamp); gives the groups that it completes."""
        complete: list[Group] = []
        if packet.is_keyframe and self._key is not None:
            if self._after:
                complete.append(self._complete())
            self._after = [packet]
            return complete
        if self._after and packet.pts < self._after[0].pts:
            self._after.append(packet)
            return complete
        if self._after:
            complete.append(self._complete())
        self._key = self._key or packet
        self._packets.append(packet)
        self._bytes += packet.size
        if len(self._packets) > MAX_HELD_PACKETS or self._bytes > MAX_HELD_BYTES:
            complete.append(self._part())
        return complete

    def finish(self) -> list[Group]:
        """The groups that are left at the stream's end."""
        complete = [self._complete()] if self._after else []
        if self._key is not None:
            complete.append(Group(self._key, self._packets, [], None, first=self._first))
        return complete

    def release(self) -> list[Packet]:
        """All packets still held, in decoding order, for a reader that gives up on groups."""
        held = [*self._packets, *self._after]
        self._packets, self._after = [], []
        return held

    def _complete(self) -> Group:
        """This group; the next one goes on without the leading pictures, which nothing behind them refers to."""
        assert self._key is not None
        group = Group(self._key, self._packets, self._after, self._after[0].pts, first=self._first)
        self._key = self._after[0]
        self._packets, self._after, self._bytes, self._first = [self._key], [], self._key.size, True
        return group

    def _part(self) -> Group:
        """All but the latest packets, among which a picture may yet be shown before one that is already here."""
        assert self._key is not None
        packets, self._packets = self._packets[:-REORDER_PACKETS], self._packets[-REORDER_PACKETS:]
        until = min(packet.pts for packet in self._packets)
        part = Group(self._key, packets, [], until, first=self._first, last=False)
        self._bytes, self._first = sum(packet.size for packet in self._packets), False
        return part
