"""A frame as a teacher takes it: upright, in its display proportions, short side scaled, centre cut out."""

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
    """Scales and crops one stream's frames in several ways; crops that share a short side share the scaling."""

    def __init__(self, crops: Sequence[ResizeCrop], sample_aspect: Fraction | None, max_pixels: int) -> None:
        self._crops, self._max_pixels = crops, max_pixels
        self._sample_aspect = sample_aspect or Fraction(1)
        # To set one up costs as much as to scale.
        self._scalers = {(crop.resize, crop.interpolation): VideoReformatter() for crop in crops}

    def pictures(self, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        """uint8 RGB (crop, crop, 3), one per ResizeCrop.

        Raises UnreadableMedia (too_large) where the frame, or what it is scaled to, has more than `max_pixels`.
        """
        upright = {scaling: self._upright(frame, *scaling) for scaling in self._scalers}
        centres = {crop: _centre(upright[crop.resize, crop.interpolation], crop.crop) for crop in self._crops}
        return [centres[crop] for crop in self._crops]

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
