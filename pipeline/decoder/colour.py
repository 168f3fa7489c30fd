"""What a frame's colour tags mean for its picture: the matrix of YCbCr, high dynamic range, wide gamut.

Teachers learned from photographs on the web, which are sRGB: BT.709's primaries and white, sRGB's curve, white at 255.
Tags are the code points of H.273, which AVFrame and AVColorSpace share.
"""

from __future__ import annotations

import math
from functools import cache

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

HD_WIDTH, HD_HEIGHT = 1280, 720

BT2020_MATRICES = (9, 10)  # constant luminance (10) is read as the other, which swscale knows
LAST_MATRIX = 17  # of H.273; what is beyond is damage, and says nothing
UNKNOWN_MATRICES = (0, 2, 3, 12, 13)  # RGB in a frame of YCbCr, unspecified, reserved, derived from the primaries

PQ, HLG = 16, 18  # transfer characteristics: SMPTE ST 2084; ARIB STD-B67, BT.2100
BT709, BT2020, DCI_P3, DISPLAY_P3 = 1, 9, 11, 12  # primaries
D65 = (0.3127, 0.3290)
CHROMATICITIES = {  # CIE 1931 x, y of red, green and blue
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
CHROMATICITIES[DCI_P3] = CHROMATICITIES[DISPLAY_P3]  # its own white is adapted: white stays white

WHITE_NITS = 203.0  # diffuse white of HDR, BT.2408 section 2.2: SDR's white
HLG_NITS = 1000.0  # the display for which HLG's system gamma is 1.2, BT.2100 table 5
HLG_GAMMA = 1.2
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
KNEE = 0.9  # of white, linear


def source_matrix(frame: av.VideoFrame) -> Colorspace | None:
    """The matrix to read a frame of YCbCr by; None where swscale takes the right one from the frame's own tag.

    A frame that does not say is BT.2020 if its colours are, else BT.709 from 720 lines or 1280 columns on, else BT.601,
    as mpv, libplacebo and Chromium read it.
    """
    if frame.format.is_rgb:
        return None
    if frame.colorspace <= LAST_MATRIX and frame.colorspace not in UNKNOWN_MATRICES:
        return Colorspace.BT2020 if frame.colorspace in BT2020_MATRICES else None
    if frame.color_primaries == BT2020 or frame.color_trc in (PQ, HLG):
        return Colorspace.BT2020
    return Colorspace.ITU709 if frame.width >= HD_WIDTH or frame.height >= HD_HEIGHT else Colorspace.ITU601


def is_beyond_sdr(frame: av.VideoFrame) -> bool:
    """Whether `to_srgb` has anything to do: the frame is PQ, HLG, or of wider primaries than BT.709's."""
    return frame.color_trc in (PQ, HLG) or _primaries(frame) != BT709


def to_srgb(picture: NDArray[np.uint16], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB as the frame's tags have it, 0 to 65535, (height, width, 3) -> sRGB of the same shape.

    A colour of an SDR picture whose white was put at 203 nits comes back as it was; highlights above are rolled off.
    """
    light = _light(frame.color_trc)[picture]
    if frame.color_trc == HLG:  # OOTF, BT.2100 table 5: scene light -> what the display shows
        light *= HLG_NITS / WHITE_NITS * (light @ BT2020_LUMINANCE)[..., None] ** (HLG_GAMMA - 1)
    light = light @ _to_bt709(_primaries(frame)).T
    if frame.color_trc in (PQ, HLG):
        light = roll_off(light)
    light = light.clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    picture_8bit: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return picture_8bit


def roll_off(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear RGB (..., 3), white at 1 -> at most 1: m, the largest of the three, becomes k + (1 - k) t / (1 + t).

    k is KNEE and t = (m - k) / (1 - k), so that the curve and its slope are continuous at k; below, nothing changes.
    All three are scaled alike, so that a bright red stays red. Reinhard's curve (2002, equation 3), begun at the knee.
    """
    largest = light.max(axis=-1, keepdims=True).clip(KNEE, None)
    above = (largest - KNEE) / (1 - KNEE)
    rolled: NDArray[np.float32] = light * ((KNEE + (1 - KNEE) * above / (1 + above)) / largest)
    return rolled


def _primaries(frame: av.VideoFrame) -> int:
    """BT.601's two sets count as BT.709's, as in most players; HDR that does not say is BT.2020."""
    if frame.color_primaries in CHROMATICITIES:
        return int(frame.color_primaries)
    unsaid = frame.color_primaries in (0, 2, 3)
    return BT2020 if unsaid and frame.color_trc in (PQ, HLG) else BT709


@cache
def _light(trc: int) -> NDArray[np.float32]:
    """(65536,): linear light of each code value; in white's units, for HLG of the scene from 0 to 1."""
    signal = np.arange(65536) / 65535
    if trc == PQ:  # EOTF, BT.2100 table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        light = 10_000 / WHITE_NITS * ((root - c1).clip(0) / (c2 - c3 * root)) ** (1 / m1)
    elif trc == HLG:  # inverse of the OETF, BT.2100 table 5
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * math.log(4 * a)
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:  # the curve of the picture to be made, so that greys stay as they are
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _to_bt709(primaries: int) -> NDArray[np.float32]:
    """(3, 3): linear RGB of these primaries -> linear RGB of BT.709's."""
    return (np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """(3, 3): linear RGB -> CIE XYZ, by SMPTE RP 177."""
    x, y = np.array([*CHROMATICITIES[primaries], D65]).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # of red, green, blue and white
    return np.asarray(xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3]))
