"""How a teacher looks at a frame: upright, in its display proportions, its short side scaled, its centre cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from shards.media import UnreadableMedia


@dataclass(frozen=True)
class View:
    """Short side and centre crop in pixels, as torchvision's Resize and CenterCrop have them."""

    resize: int
    crop: int

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(
                f"a view crops {self.crop} pixels out of a short side of {self.resize}: crop must fit in resize"
            )


def pictures_of(
    frame: av.VideoFrame, views: Sequence[View], sample_aspect: Fraction | None, max_pixels: int
) -> list[NDArray[np.uint8]]:
    """uint8 RGB (crop, crop, 3), one per view; views that share a size share the work.

    Raises UnreadableMedia (too_large) where the frame, or its scaled picture, has more than `max_pixels`.
    """
    scaled: dict[int, NDArray[np.uint8]] = {}
    pictures: dict[View, NDArray[np.uint8]] = {}
    for view in views:
        if view.resize not in scaled:
            scaled[view.resize] = _upright(frame, view.resize, sample_aspect, max_pixels)
        if view not in pictures:
            pictures[view] = _centre(scaled[view.resize], view.crop)
    return [pictures[view] for view in views]


def _upright(frame: av.VideoFrame, short: int, sample_aspect: Fraction | None, max_pixels: int) -> NDArray[np.uint8]:
    """uint8 RGB (height, width, 3): scaled by swscale in one go with the colour conversion, then turned."""
    aspect = frame.width * (sample_aspect or Fraction(1)) / frame.height
    width, height = (int(short * aspect), short) if aspect > 1 else (short, int(short / aspect))
    if max(frame.width * frame.height, width * height) > max_pixels:
        raise UnreadableMedia(
            "too_large", f"{frame.width}x{frame.height}, shown as {width}x{height}: more than max_pixels={max_pixels}"
        )
    picture = frame.reformat(width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1).to_ndarray()
    return np.rot90(picture, round(frame.rotation / 90))  # both count counterclockwise


def _centre(picture: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    top, left = (round((length - crop) / 2) for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + crop, left : left + crop])
