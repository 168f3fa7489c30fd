"""A frame as a teacher takes it: upright, in its display proportions, short side scaled, centre cut out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import Interpolation as Scaling
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.decoder.colour import is_beyond_sdr, source_matrix, to_srgb
from shards.media.rejects import UnreadableMedia

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class ResizeCrop:
    """Short side and centre crop in pixels, as torchvision's Resize and CenterCrop have them."""

    resize: int
    crop: int
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(
                f"a crop of {self.crop} pixels is larger than the picture, whose short side is resized to {self.resize}"
            )


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
        scaled = {scaling: self._scaled(frame, *scaling) for scaling in self._scalers}
        centres = {crop: _centre(scaled[crop.resize, crop.interpolation], crop.crop) for crop in self._crops}
        return [centres[crop] for crop in self._crops]

    def _scaled(self, frame: av.VideoFrame, short: int, interpolation: Interpolation) -> NDArray[np.uint8]:
        """uint8 RGB (height, width, 3): scaled by swscale, in one go with the colour conversion, and as displayed."""
        aspect = frame.width * self._sample_aspect / frame.height
        width, height = (int(short * aspect), short) if aspect > 1 else (short, int(short / aspect))
        if max(frame.width * frame.height, width * height) > self._max_pixels:
            size = f"a frame of {frame.width}x{frame.height}, scaled to {width}x{height}"
            raise UnreadableMedia("too_large", f"{size}, is more than reading.max_pixels={self._max_pixels}")
        wide = is_beyond_sdr(frame)
        # planar: as from packed RGB with full chroma, in a third of the time
        scaled = self._scalers[short, interpolation].reformat(
            frame,
            width,
            height,
            "gbrp16le" if wide else "gbrp",
            src_colorspace=source_matrix(frame),
            interpolation=Scaling[interpolation.upper()],
            threads=1,
        )
        array = scaled.to_ndarray()
        picture = to_srgb(array.astype(np.uint16, copy=False), frame) if wide else array.astype(np.uint8, copy=False)
        return as_displayed(picture, frame)


def as_displayed(picture: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of a frame, turned and mirrored as the frame's display matrix has it.

    A pixel at x, y is shown at x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2). A matrix that is none of the eight
    orientations counts as the nearest of them; zeros change nothing.
    """
    a, b, c, d = _display_matrix(frame)
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):  # what was a row is shown as a column
        picture, across, down = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _display_matrix(frame: av.VideoFrame) -> tuple[float, float, float, float]:
    """a, b, c, d."""
    try:
        side_data: Any = frame.side_data  # whose keys PyAV's types do not tell
        found = side_data["DISPLAYMATRIX"]
    except KeyError:
        return 1, 0, 0, 1
    except ValueError:  # another kind of side data that PyAV has no name for (EXIF): only the angle can be had
        angle = math.radians(-frame.rotation)
        return math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()  # 16.16, row by row: a b u, c d v, x y w
    return a, b, c, d


def _centre(picture: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    top, left = (round((length - crop) / 2) for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + crop, left : left + crop])
