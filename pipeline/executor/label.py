"""From posteriors of single frames to the label of a window, as it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_posteriors(frame_posteriors: NDArray[np.float32], windows: int) -> NDArray[np.float16]:
    """The mean over each window's frames, normalised, then rounded: float16 (windows, classes).

    `frame_posteriors` is (frames, classes) with the frames in order and equally many for each window. A stored row
    sums to 1 within 2^-11 + classes * 2^-25, the rounding of its entries. Shifting that remainder onto small classes
    would distort them more than it mends; a reader that needs the exact sum divides by it. Raises ValueError.
    """
    frames, classes = frame_posteriors.shape
    if windows < 1 or frames < windows or frames % windows:
        raise ValueError(f"{frames} frames do not divide into {windows} windows")
    mean = frame_posteriors.astype(np.float64).reshape(windows, frames // windows, classes).mean(axis=1)
    total = mean.sum(axis=1, keepdims=True)
    if not np.all(np.isfinite(total)) or np.any(total <= 0):
        raise ValueError(f"posteriors must be finite with a positive sum, not sums of {total.ravel().tolist()}")
    rounded: NDArray[np.float16] = (mean / total).astype(np.float16)
    return rounded
