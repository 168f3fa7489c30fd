"""How a teacher looks at a frame: upright, in its display proportions, its short side scaled, its centre cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation as Scaling
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from shards.media.file import UnreadableMedia

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class ResizeCrop:
    """Short side and centre crop in pixels, as torchvision's Resize and CenterCrop have them."""

    resize: int
    crop: int
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"a view of {self.crop} pixels does not fit into a short side of {self.resize}")


class FrameResizer:
    """Turns one stream's frames into the pictures of some views; views that share a size share the work."""

    def __init__(self, views: Sequence[ResizeCrop], sample_aspect: Fraction | None, max_pixels: int) -> None:
        self._views, self._max_pixels = views, max_pixels
        self._sample_aspect = sample_aspect or Fraction(1)
        # To set one up costs as much as to scale.
        self._scalers = {(view.resize, view.interpolation): VideoReformatter() for view in views}

    def pictures(self, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        """uint8 RGB (crop, crop, 3), one per view.

        Raises UnreadableMedia (too_large) where the frame, or what it is scaled to, has more than `max_pixels`.
        """
        upright = {way: self._upright(frame, *way) for way in self._scalers}
        centres = {view: _centre(upright[view.resize, view.interpolation], view.crop) for view in self._views}
        return [centres[view] for view in self._views]

    def _upright(self, frame: av.VideoFrame, short: int, interpolation: Interpolation) -> NDArray[np.uint8]:
        """uint8 RGB (height, width, 3): scaled by swscale, in one go with the colour conversion, then turned."""
        aspect = frame.width * self._sample_aspect / frame.height
        width, height = (int(short * aspect), short) if aspect > 1 else (short, int(short / aspect))
        if max(frame.width * frame.height, width * height) > self._max_pixels:
            size = f"a frame of {frame.width}x{frame.height}, scaled to {width}x{height}"
            raise UnreadableMedia("too_large", f"{size}, is more than reading.max_pixels={self._max_pixels}")
        # planar: as from packed RGB with full chroma, in a third of the time
        scaled = self._scalers[short, interpolation].reformat(
            frame, width, height, "gbrp", interpolation=Scaling[interpolation.upper()], threads=1
        )
        picture: NDArray[np.uint8] = scaled.to_ndarray().astype(np.uint8, copy=False)
        return np.rot90(picture, round(frame.rotation / 90))  # both count counterclockwise


def _centre(picture: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    top, left = (round((length - crop) / 2) for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + crop, left : left + crop])
