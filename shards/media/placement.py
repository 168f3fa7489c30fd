"""Where decoded frames stand in time: what their stamps say, against the samples counted up to them.

Stamps are rounded by muxers and taken from the clock of the machine by capture cards, so that they wander about the
truth, while samples follow each other exactly. Stamps are therefore believed together, never one alone.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

JUMP_SECONDS = 0.02  # that the stamps must move by, on average, for a run of samples to end
DRIFT_SECONDS = 0.04  # ... by and by: stamps may wander by as much, slowly or not, while the samples stand right
STEADY_SECONDS = 0.005  # stamps that wander by less are exact; Matroska rounds to milliseconds
SPLIT_SECONDS = 0.005  # between all stamps before a break and all behind it; more than a slow wander makes in a frame
WILD_SECONDS = 0.1  # off the others: no stamp that wanders, but one that is wrong
AHEAD_SECONDS, AHEAD_FRAMES = 0.5, 24  # decoded before a frame is placed: both, unless it is MOST_AHEAD_SECONDS
MOST_AHEAD_SECONDS = 5.0
RECENT_SECONDS = 1.0  # of a run, which a break must lie beyond
FEW = 12  # stamps, of which fewer lie on one side of the others by chance

Offsets = NDArray[np.float64]


class PlacedFrame(NamedTuple):
    """`time` is seconds on the media's timeline; `begins`: a run begins here, else it follows the frame before."""

    frame: av.AudioFrame
    time: float
    begins: bool


class _Counted(NamedTuple):
    frame: av.AudioFrame
    counted: float  # seconds of sound before it
    stamp: float  # seconds; nan where it has none
    offset: float  # of the stamp from the count: the same throughout a run


class FramePlacer:
    """Fed the frames of a track in order, it gives them back with their times, half a second later.

    `smoothed` counts the frames that stand more than STEADY_SECONDS from where their stamps say.
    """

    def __init__(self) -> None:
        self.smoothed = 0
        self._held: deque[_Counted] = deque()
        self._recent: deque[tuple[float, float]] = deque()  # (counted, offset from the run's) of the last second
        self._counted = 0.0  # seconds of all frames so far
        self._level = math.nan  # the run's offset

    def push(self, frame: av.AudioFrame) -> list[PlacedFrame]:
        """The frames that can be placed, now that this one is known too."""
        stamp = math.nan if frame.pts is None else float(frame.time)  # type: ignore[arg-type]
        held, counted = self._held, self._counted
        held.append(_Counted(frame, counted, stamp, stamp - counted))
        self._counted += frame.samples / frame.sample_rate
        placed = []
        while len(held) > 1:
            ahead = self._counted - held[0].counted
            if (ahead < AHEAD_SECONDS or len(held) < AHEAD_FRAMES) and ahead < MOST_AHEAD_SECONDS:
                break
            placed.append(self._place())
        return placed

    def finish(self) -> list[PlacedFrame]:
        """No more frames will come: those still held."""
        return [self._place() for _ in range(len(self._held))]

    def _place(self) -> PlacedFrame:
        head = self._held[0]
        departure = head.offset - self._level
        begins = math.isnan(self._level) or (abs(departure) > STEADY_SECONDS and self._leaves_run())
        if begins:
            self._recent.clear()
            offsets = self._offsets()
            self._level = _level(offsets) if len(offsets) else 0.0
            departure = head.offset - self._level
        self._held.popleft()
        if abs(departure) > STEADY_SECONDS:
            self.smoothed += 1
        if abs(departure) < WILD_SECONDS:
            recent = self._recent
            recent.append((head.counted, departure))
            while len(recent) > FEW and recent[0][0] < head.counted - RECENT_SECONDS:
                recent.popleft()
        # the very stamp where it is believed: a sum that was taken apart is not put together to the same last bit
        return PlacedFrame(head.frame, head.stamp if departure == 0 else self._level + head.counted, begins)

    def _offsets(self) -> Offsets:
        """Of the frames ahead that have stamps."""
        return np.array([held.offset for held in self._held if not math.isnan(held.offset)])

    def _leaves_run(self) -> bool:
        """Whether the first of the frames ahead does not go on from the run, as all of them together say."""
        ahead = self._offsets() - self._level
        near = ahead[np.abs(ahead - ahead[0]) < WILD_SECONDS]
        returns = np.any((np.abs(ahead) < WILD_SECONDS) & (np.abs(ahead - ahead[0]) >= WILD_SECONDS))
        recent = np.array([departure for _, departure in self._recent])
        if not returns and (_parted(recent, near, level=0.0) if len(recent) else len(near) > 1):
            return True
        return _drifts(ahead) and _drifts(_until_break(ahead, level=0.0))


def _level(offsets: Offsets) -> float:
    """The offset of a run that begins at the first of these: its own where stamps are exact, else what most say."""
    if len(offsets) > 2 and abs(offsets[0] - offsets[1]) > WILD_SECONDS > abs(offsets[1] - offsets[2]):
        offsets = offsets[1:]
    offsets = _until_break(offsets)
    off = np.abs(offsets - np.median(offsets))
    agreeing = off < STEADY_SECONDS
    if _one_way(offsets) or (agreeing[0] and agreeing.sum() > len(offsets) / 2) or off.min() >= WILD_SECONDS:
        return float(offsets[0])
    return float(offsets[off < WILD_SECONDS].mean())


def _until_break(offsets: Offsets, level: float | None = None) -> Offsets:
    """Those in front of the first place where they part."""
    offsets = offsets[: 4 * FEW]
    ends = (place for place in range(1, len(offsets)) if _parted(offsets[:place], offsets[place:], level))
    return offsets[: next(ends, None)]


def _drifts(departures: Offsets) -> bool:
    """Whether a run's clock has gone wrong by and by, so that no stamp lies beyond the others."""
    kept = departures[np.abs(departures - np.median(departures)) < WILD_SECONDS]
    if len(kept) < max(FEW / 2, len(departures) / 2):
        return False
    return bool(DRIFT_SECONDS + 3 * kept.std() / math.sqrt(len(kept)) < abs(kept.mean()) < WILD_SECONDS)


def _parted(before: Offsets, after: Offsets, level: float | None = None) -> bool:
    """Whether all of one lie beyond all of the other, not by chance, and far from them or from the run's level."""
    if len(after) < 2:  # a single stamp proves nothing
        return False
    step = max(after.min() - before.max(), before.min() - after.max())
    middle = after.mean()
    jump = max(abs(middle - before.mean()), 0.0 if level is None else abs(middle - level))
    if step <= SPLIT_SECONDS or jump <= JUMP_SECONDS:
        return False
    if min(len(before), len(after)) >= FEW:
        return True
    both = np.concatenate([before, after])
    if step > JUMP_SECONDS and len(both) >= FEW and _one_way(both):
        return True
    spread = max(np.ptp(before), np.ptp(after))
    return bool(step > spread) and (len(before) > 1 or bool(spread < STEADY_SECONDS))


def _one_way(offsets: Offsets) -> bool:
    """Whether they only grow or only fall, as where packets are missing again and again, and as none do that wander."""
    steps = list(itertools.pairwise(offsets.tolist()))
    return all(b > a - SPLIT_SECONDS for a, b in steps) or all(b < a + SPLIT_SECONDS for a, b in steps)
