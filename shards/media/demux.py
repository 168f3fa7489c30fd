"""A media file is read: packets of its streams in step, on one timeline, and what they decode to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import av
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream

from shards.media.clock import AnyPacket, Clock
from shards.media.file import MAX_PIXELS, MediaFile, refuse_disk_fault
from shards.media.rejects import UnreadableMedia, refuse_out_of_memory

LEAD_SECONDS = 60.0  # of one stream before the other in the file, from which on each is read from its own opening
VORBIS_LATE = (8192 - 64) // 4  # samples: of its longest block and its shortest
MAX_READ_FAILURES = 16  # in a row: a failing disk would otherwise be asked for ever

Frame = TypeVar("Frame", av.AudioFrame, av.VideoFrame)


class Demuxer(MediaFile):
    """One file, read from its beginning; `errors` counts what could not be demuxed or decoded."""

    def __init__(
        self,
        path: Path,
        max_pixels: int = MAX_PIXELS,
        options: Mapping[str, str] = MappingProxyType({}),
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(path, max_pixels, options, progress)
        self.errors = 0
        self.corrupt_frames = 0  # that the decoder says it has guessed; none of them is given
        self.decoded_packets = 0  # tried, in vain or not
        self._disk_was_asked = False  # whether an error is its
        self.ended_early = False  # one of two streams has ended, and the other was not read to its end
        self._last_byte = 0  # where the packet lies that is furthest behind in the file

    def expected_end(self, begin: float, read_until: float) -> float:
        """Seconds at which the file ends, as far as is known when it was read until so many seconds.

        A length that is written there, or found by FFmpeg, is that of the first streams alone where recordings are
        joined. Then the file is as long as its bytes are, at the pace of those that were read.
        """
        promised = self.promised_end(begin)
        first = None if self.ended_early or not self._last_byte else self.next_film(self._last_byte)
        if not first:
            return promised
        length = min(read_until, promised if promised > begin else math.inf) - begin
        return max(promised, begin + length * self.container.size / first)

    def packets(self, *streams: Stream, beside: Sequence[Stream] = ()) -> Iterator[AnyPacket]:
        """Packets of these streams, on one timeline (see clock.py), as they lie in the file.

        `beside` are streams that only bear witness to where the file's clock begins anew. Where one of two streams lies
        far behind the other in the file, it is read in step from a second opening; where it has ended, so has this.
        Raises UnreadableMedia for packets that are encrypted.
        """
        wanted = {stream.index for stream in streams}
        watched = [*streams, *(stream for stream in beside if stream.index not in wanted)]
        clock = self.clock = Clock(watched, stores_dts=self.stores_dts, lists_every_frame=self.is_indexed)
        seen = dict.fromkeys(wanted, 0)
        origin = math.nan
        for packet in self._demuxed(watched):
            seen[packet.stream_index] = seen.get(packet.stream_index, 0) + 1
            yield from (each for each in clock.push(packet) if each.stream_index in wanted)
            if len(wanted) == 2 and packet.stream_index in wanted:
                ends = {index: clock.end(index) for index in wanted}
                late, ahead = sorted(ends, key=lambda index: ends[index])
                origin = ends[ahead] if math.isnan(origin) else origin
                if ends[ahead] - max(ends[late], origin) > LEAD_SECONDS:
                    yield from self._in_step(clock, late, ahead, seen[late])
                    break
        yield from (each for each in clock.finish() if each.stream_index in wanted)

    def _in_step(self, clock: Clock, late: int, ahead: int, seen: int) -> Iterator[AnyPacket]:
        """The rest of two streams, each from an opening of its own, until one has ended and the other is past it."""
        with Demuxer(self._path, self._max_pixels, progress=self._progress) as other:
            stream = self.container.streams[ahead]
            sources = {
                late: itertools.islice(other._demuxed([other.container.streams[late]]), seen, None),
                ahead: (packet for packet in self._demuxed([stream]) if packet.stream_index == ahead),
            }
            behind = late
            while packet := next(sources[behind], None):
                self.errors, other.errors = self.errors + other.errors, 0
                yield from clock.push(packet)
                behind = min((late, ahead), key=lambda index: clock.end(index, held=True))
            # A last frame, or one that is shown long after it is decoded.
            stays = max(clock.longest(behind), LEAD_SECONDS)
            for packet in sources[late + ahead - behind]:
                yield from clock.push(packet)
                if clock.end(packet.stream_index) > clock.end(behind, held=True) + stays:
                    self.ended_early = True
                    break
            self.errors += other.errors
            self._last_byte = max(self._last_byte, other._last_byte)

    def _demuxed(self, streams: Sequence[Stream]) -> Iterator[AnyPacket]:
        wanted = {stream.index for stream in streams}
        for stream in self.container.streams:
            stream.discard = Discard.default if stream.index in wanted else Discard.all
        latest = dict.fromkeys(wanted, -math.inf)  # stamps of decoding
        is_ogg, ends = self.container.format.name == "ogg", dict[int, int]()
        failures = 0
        while failures < MAX_READ_FAILURES:
            try:
                for packet in self.container.demux(streams):
                    failures = 0
                    if packet.has_sidedata("encryption_info"):
                        raise UnreadableMedia("encrypted", "its packets are encrypted, and there is no key")
                    self.errors += packet.is_corrupt  # something in front of it is missing
                    if packet.is_discard and packet.dts is not None and packet.dts <= latest[packet.stream_index]:
                        packet = _shown(packet)
                    if is_ogg and packet.stream.codec_context.name == "vorbis":
                        _unstamp_guess(packet, ends)
                    latest[packet.stream_index] = -math.inf if packet.dts is None else packet.dts
                    self._last_byte = max(self._last_byte, packet.pos or 0)
                    if packet.size:  # an empty packet would tell the decoder that the stream has ended
                        yield packet
                return
            except IndexError:  # PyAV, at the very end, over streams that appeared on the way
                return
            except MemoryError as error:
                refuse_out_of_memory(error)
            except FFmpegError as error:
                if not self._disk_was_asked:
                    self._disk_was_asked = True
                    refuse_disk_fault(self._path, error, self._progress)
                failures += 1
                self.errors += 1

    def decoded(self, decode: Callable[[AnyPacket | None], list[Frame]], packet: AnyPacket | None) -> list[Frame]:
        """Frames that this packet completes, or all that are left (None). One that fails is counted and gives none."""
        self.decoded_packets += packet is not None
        try:
            frames = decode(packet)
        except MemoryError as error:
            refuse_out_of_memory(error)
        except EOFError:  # emptied before
            return []
        except FFmpegError:
            self.errors += 1
            return []
        good = [frame for frame in frames if not frame.is_corrupt]
        self.corrupt_frames += len(frames) - len(good)
        return good


def _unstamp_guess(packet: AnyPacket, ends: dict[int, int]) -> None:
    """Take a stamp of Ogg Vorbis away that FFmpeg has guessed wrongly; `ends`: of the packets before, by stream.

    Ogg stamps whole pages. FFmpeg counts back from a page's end, with a short block behind a long one as too short, so
    that it begins up to VORBIS_LATE samples late; it ends right.
    """
    if packet.pts is not None:
        late = packet.pts - ends.get(packet.stream_index, packet.pts)
        ends[packet.stream_index] = packet.pts + (packet.duration or 0)
        if 0 < late <= VORBIS_LATE:
            packet.pts = packet.dts = None


def _shown(packet: AnyPacket) -> AnyPacket:
    """A copy that is not marked as hidden.

    FFmpeg hides a packet of a fragmented file whose stamp of decoding is no later than the one before, as where stamps
    wander; one that an edit list hides is later.
    """
    copy: AnyPacket = Packet(bytes(packet))
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.stream, copy.is_keyframe = packet.stream, packet.is_keyframe
    return copy
