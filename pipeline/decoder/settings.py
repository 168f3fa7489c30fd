"""How a video is read: which frame stands for a time, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

from shards.errors import given
from shards.media.file import MAX_PIXELS


@dataclass(frozen=True)
class DecodeSettings:
    """The conf block `reading`.

    sampling: `exact` takes the frame displayed at the time asked for; `keyframe` the nearest key frame, however far,
    and decodes no other; `tolerance` the cheapest of the frames that begin within `tolerance` seconds of the time: a
    key frame, else the first to be decoded; where none begins there, the exact one. Streams without presentation times
    (AVI) are read exactly in any case.
    """

    # which frame is taken for a time: exact, the cheapest within tolerance, or the nearest keyframe
    sampling: str = "exact"
    tolerance: float = 0.5  # seconds that a frame may be off, with sampling=tolerance
    min_seconds: float = 1.0  # a video whose sound and picture last less than this is rejected
    max_pixels: int = MAX_PIXELS  # a video with larger frames is rejected
    max_gigabytes: float = 16.0  # a video behind a URL that is larger is rejected

    def __post_init__(self) -> None:
        if self.sampling not in ("exact", "tolerance", "keyframe"):
            raise ValueError(f"reading.sampling is exact, tolerance or keyframe, not {self.sampling!r}")
        if self.tolerance < 0 or self.min_seconds <= 0 or self.max_pixels < 1 or self.max_gigabytes <= 0:
            values = given(self, "tolerance", "min_seconds", "max_pixels", "max_gigabytes")
            raise ValueError(f"reading.tolerance is at least 0, reading's other numbers are above 0, not {values}")
