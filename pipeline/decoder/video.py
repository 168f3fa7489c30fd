"""The frames displayed at given times, from one stream's packets in file order.

GOPs in which no time asked for lies are never decoded; the others are decoded up to the last frame asked for,
without the frames that no other frame refers to. No seeking, no index.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal

from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from pipeline.decoder.frame_sampler import ROUNDING, FrameRequest, FrameSampler, SampledFrame, cheapest
from pipeline.decoder.gop import Gop, GopSplitter, TimedPacket
from pipeline.decoder.settings import DecodeSettings
from shards.media.clock import AnyPacket
from shards.media.demux import Demuxer

MOST_SECONDS = 86_400.0  # that a frame may stay on the screen; a time stamp further ahead ends the stream
SPARSE_SECONDS = 1.0  # between two frames, from which on a stream shows slides, or frames when something changes
REORDERED = 16  # frames at most that a codec decodes before they are shown
FOLLOWING = 2  # frames that follow one whose stamp is wrong, and say so
MOST_DOUBTS = 3  # GOPs that are decoded to no avail, since their frames are uneven: then such is the film


class VideoTrack:
    """Takes a stream's packets from a key frame on; gives a SampledFrame for each of the ascending `times`, in order.

    All time stamps are moved by `shift` seconds. With `every_frame` all frames are decoded in turn, for streams whose
    key frames cannot be trusted.
    """

    def __init__(
        self,
        media: Demuxer,
        stream: VideoStream,
        crops: Sequence[ResizeCrop],
        settings: DecodeSettings,
        times: Iterator[float],
        reach: float,
        shift: float,
        every_frame: bool = False,
    ) -> None:
        self.end_seconds = -math.inf  # where the packets seen so far end
        self._media, self._context, self._settings, self._times = media, stream.codec_context, settings, times
        self._upcoming = next(times, math.inf)
        self._sampler = FrameSampler(FrameResizer(crops, stream.sample_aspect_ratio, settings.max_pixels), reach)
        self._splitter = GopSplitter()
        self._carried: list[FrameRequest] = []  # to be answered by the next GOP's key frame
        self._skipping: Literal["DEFAULT", "NONREF"] = "DEFAULT"
        self._every_frame = every_frame or not media.has_times  # then only the decoder knows when each frame is shown
        self._last_begin = -math.inf  # of the frames seen so far, the one shown last
        self._begins: list[float] = []  # a heap of the latest frames' begins, until their order is certain
        self._previous = math.nan  # the begin that left it last
        self._longest = 0.0  # seconds that a frame stayed on the screen, up to the next one
        self._ended = False  # by a time stamp that cannot be
        self._latest_end = -math.inf  # of the frame decoded last, where every frame is decoded
        self._guessed: list[int] = []  # a heap of time stamps that no frame has taken yet
        self._doubts = 0  # GOPs that were doubted for nothing
        self._decoded = deque[tuple[float, VideoFrame]]()  # where every frame is decoded: the latest, and their begins
        self._fields = self._context.field_order > 1  # interlaced: two packets may make one frame
        self._base, self._shift = media.time_base(stream), shift
        self._context.open(strict=False)  # dav1d would keep the `skip_frame` that it is opened with
        rate = stream.average_rate
        self._frame_seconds = float(1 / rate) if rate else 0.0  # for packets that do not know how long they last

    @property
    def done(self) -> bool:
        """Whether every one of a finite list of times has its frame."""
        return self._upcoming == math.inf and not self._carried and not self._sampler.waiting

    def push(self, packet: AnyPacket) -> Iterator[SampledFrame]:
        """Takes the next packet; gives the frames that have become certain."""
        timed = self._timed(packet)
        if self._ended:
            return
        if timed is None and not self._every_frame:
            yield from self._stop_splitting()
        if timed is None or self._every_frame:
            yield from self._decode_in_order(packet)
            return
        for gop in self._splitter.push(timed):
            if self._is_out_of_order(gop):
                yield from self._stop_splitting(gop)
                return
            yield from self._sample(gop, math.inf)

    def drain(self) -> Iterator[SampledFrame]:
        """No more packets will come: from here on `end_seconds` is where the stream ends."""
        if self._every_frame:
            yield from self._decode_in_order(None)
            yield from self._show_in_order(ahead=0)

    def hold(self, until: float) -> None:
        """After `drain`: the last frame stays on the screen until `until` seconds, no longer than one before it did.

        Only in a stream of slides, or of frames when something changes, that does not list how long each lasts; a
        single frame stays however long, whatever is listed.
        """
        while self._begins:
            self._pass(heapq.heappop(self._begins))
        if (
            (self._media.is_indexed and self._longest)
            or self._media.errors
            or self._ended
            or math.isnan(self._previous)
        ):
            return
        longest = self._longest or math.inf
        if longest > SPARSE_SECONDS:
            self.end_seconds = max(self.end_seconds, min(until, self._last_begin + longest))
            self._latest_end = max(self._latest_end, self.end_seconds)

    def finish(self, until: float) -> Iterator[SampledFrame]:
        """After `drain`: gives the frames for the times that are left before `until` seconds."""
        if self._every_frame:
            self._request_latest(until, self._latest_end)
            yield from self._sampler.finish()
        else:
            for gop in self._splitter.finish():
                yield from self._sample(gop, until)

    def _timed(self, packet: AnyPacket) -> TimedPacket | None:
        """The packet with its times; None if it bears none."""
        stamp, duration = packet.pts, packet.duration
        if stamp is None:
            return None
        begin = self._seconds(stamp)
        self._ended |= MOST_SECONDS < begin - self.end_seconds < math.inf
        if self._ended:
            return None
        own = (duration or 0) * self._base[0] / self._base[1]
        timed = TimedPacket(packet, begin, begin + own, packet.is_keyframe, packet.is_discard)
        if not timed.hidden:
            heapq.heappush(self._begins, begin)
            if len(self._begins) > REORDERED:
                self._pass(heapq.heappop(self._begins))
            if begin >= self._last_begin:  # one before it lasts until it comes, whatever it says
                self._last_begin, self.end_seconds = begin, begin + (own or self._frame_seconds)
        return timed

    def _pass(self, begin: float) -> None:
        """Of the begins of frames in the order of display, the next one."""
        if begin > self._previous:
            self._longest = max(self._longest, begin - self._previous)
        self._previous = begin

    def _is_out_of_order(self, gop: Gop) -> bool:
        """Whether the decoder, which knows the order of display, gives a doubtful GOP's frames in another one.

        Frames of a phone or of a screen that is recorded are uneven, and their stamps are right.
        """
        if not gop.is_doubtful or self._media.errors or self._doubts == MOST_DOUBTS:
            return False
        shown = list[int]()
        with suppress(FFmpegError, MemoryError):  # said where it is read
            for packet in (*(timed.packet for timed in [*gop.packets, *gop.after]), None):
                shown += (frame.pts for frame in self._context.decode(packet) if frame.pts is not None)
        self._context.flush_buffers()
        is_wrong = any(after < before for before, after in itertools.pairwise(shown))
        self._doubts += not is_wrong
        return is_wrong

    def _stop_splitting(self, gop: Gop | None = None) -> Iterator[SampledFrame]:
        """A packet has come without a time, or behind a GOP with a wrong one: from here on every frame is decoded."""
        self._every_frame = True
        self._skip("DEFAULT")
        for request in self._carried:
            self._sampler.request(request)
        held = self._splitter.release()
        for timed in [*gop.packets, *gop.after, *held[1:]] if gop else held:
            yield from self._decode_in_order(timed.packet)

    def _decode_in_order(self, packet: AnyPacket | None) -> Iterator[SampledFrame]:
        """Every frame is decoded; a time is settled when the first frame comes that is shown after it."""
        stamp = None if packet is None or self._media.has_times else packet.dts  # AVI: FFmpeg guesses a pts as well
        errors = self._media.errors
        frames = self._media.decoded(self._context.decode, packet)
        if stamp is not None and self._media.errors == errors:
            heapq.heappush(self._guessed, stamp)
        for frame in frames:
            shown = frame.dts if frame.pts is None else frame.pts
            if self._guessed:  # the frame shown next takes the earliest stamp left
                shown = heapq.heappop(self._guessed)
            if shown is not None:
                self._decoded.append((self._seconds(shown), frame))
                yield from self._show_in_order(ahead=FOLLOWING)

    def _show_in_order(self, ahead: int) -> Iterator[SampledFrame]:
        """The frames decoded but for the latest `ahead`; the decoder gives them in the order of display.

        One whose stamp is behind those that follow it, or before that of the one shown last, is not shown.
        """
        while len(self._decoded) > ahead:
            begin, frame = self._decoded.popleft()
            late = len(self._decoded) == FOLLOWING and begin > max(following for following, _ in self._decoded)
            if late or (self._sampler.latest is not None and begin < self._sampler.latest):
                self._media.clock.repaired += 1
                continue
            self._ended |= MOST_SECONDS < begin - self._latest_end < math.inf
            if self._ended:
                return
            self._request_latest(begin, self._latest_end if self._media.errors else begin)
            yield from self._sampler.push(begin, frame)
            own = frame.duration * self._base[0] / self._base[1]
            self._latest_end = begin + (own or self._frame_seconds)
            self.end_seconds = max(self.end_seconds, self._latest_end)

    def _request_latest(self, until: float, lasts: float) -> None:
        """Requests the latest frame, which is shown until `lasts`, for all times before `until` seconds."""
        while self._upcoming + ROUNDING < until and self._sampler.latest is not None:
            self._sampler.request(FrameRequest(self._upcoming, self._sampler.latest, lasts))
            self._upcoming = next(self._times, math.inf)

    def _sample(self, gop: Gop, until: float) -> Iterator[SampledFrame]:
        """Gives the frames of this GOP for the times before `until` seconds.

        A frame whose stamp cannot be is not shown: the one before it stays.
        """
        for timed in gop.misplaced() if gop.first and gop.last else ():
            timed.hidden, timed.packet.pts = True, None
            self._media.clock.repaired += 1
        requests = self._requests_in(gop, min(gop.until, until))
        for request in requests:
            self._sampler.request(request)
        yield from self._decode(gop, {request.target for request in requests})
        if gop.last and (requests or not gop.first):  # empty the decoder: the next GOP starts afresh
            self._skip("DEFAULT")
            yield from self._push_decoded(None)
            self._context.flush_buffers()
            yield from self._sampler.finish()

    def _requests_in(self, gop: Gop, until: float) -> list[FrameRequest]:
        """All times before `until` that have no frame yet, each with the frame to show for it."""
        requests, self._carried = self._carried, []
        if self._upcoming + ROUNDING >= until:
            return requests
        shown = gop.shown() or [gop.key]
        begins = [timed.begin for timed in shown]
        # A frame stays on the screen until the next one comes; which may be missing in a damaged file that lists none.
        stay = self._media.is_indexed or not self._media.errors
        lasts = [*begins[1:], gop.until] if stay else [timed.end for timed in shown]
        while self._upcoming + ROUNDING < until:
            choice = cheapest(gop, self._upcoming, self._settings)
            if choice is None:
                place = max(bisect_right(begins, self._upcoming + ROUNDING) - 1, 0)
                requests.append(FrameRequest(self._upcoming, begins[place], lasts[place]))
            else:
                answered_by = self._carried if gop.after and choice is gop.after[0] else requests
                answered_by.append(FrameRequest(self._upcoming, choice.begin, math.inf))
            self._upcoming = next(self._times, math.inf)
        return requests

    def _decode(self, gop: Gop, targets: set[float]) -> Iterator[SampledFrame]:
        """Decodes up to the last target, and of the frames that no other refers to only the targets."""
        packets = gop.packets
        if not targets.isdisjoint(timed.begin for timed in gop.after[1:]):
            packets = [*packets, *gop.after]
        wanted = [timed.begin in targets for timed in packets]
        count = max((index + 1 for index, want in enumerate(wanted) if want), default=0)
        if not gop.last:  # what follows may refer to any of it
            count = len(packets) if self._settings.sampling != "keyframe" else int(gop.first)
        if self._fields and count:  # a target and its neighbours: one of them may be its other field
            count += 1
            wanted = [any(wanted[max(index - 1, 0) : index + 2]) for index in range(len(wanted))]
        for timed, want in zip(packets[:count], wanted, strict=False):
            self._skip("DEFAULT" if want else "NONREF")
            yield from self._push_decoded(timed.packet)

    def _push_decoded(self, packet: AnyPacket | None) -> Iterator[SampledFrame]:
        for frame in self._media.decoded(self._context.decode, packet):
            if frame.pts is not None:
                yield from self._sampler.push(self._seconds(frame.pts), frame)

    def _seconds(self, stamp: int) -> float:
        return stamp * self._base[0] / self._base[1] + self._shift

    def _skip(self, kind: Literal["DEFAULT", "NONREF"]) -> None:
        if kind != self._skipping:
            self._context.skip_frame = self._skipping = kind
