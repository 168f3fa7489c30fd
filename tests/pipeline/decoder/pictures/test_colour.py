"""Cards of known colours, coded by the standards' formulas in float64 and read back as sRGB."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decoder.colour import roll_off
from pipeline.decoder.crop import FrameResizer, ResizeCrop
from shards.media.file import MAX_PIXELS

CARDS = [(192, 48, 32), (128, 128, 128), (20, 90, 200), (40, 160, 60), (230, 220, 200), (0, 0, 0)]
FCC, BT709, SMPTE170M, BT470BG, SMPTE240M, BT2020 = 4, 1, 6, 5, 7, 9
LUMINANCE = {  # of red and of blue, H.273 table 4
    BT709: (0.2126, 0.0722), FCC: (0.30, 0.11), BT470BG: (0.299, 0.114), SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087), BT2020: (0.2627, 0.0593),
}  # fmt: skip
UNSPECIFIED, LIMITED, FULL = 2, 1, 2
PQ, HLG = 16, 18
# BT.2087 table 1: linear RGB of BT.709 -> of BT.2020
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def ycbcr(rgb: NDArray[np.float64], matrix: int, bits: int = 8, full: bool = False) -> NDArray[np.float64]:
    """R'G'B' from 0 to 1 -> code values of Y', Cb, Cr, H.273 equations 20 to 40."""
    red, blue = LUMINANCE[matrix]
    y = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    cb, cr = (rgb[2] - y) / (2 * (1 - blue)), (rgb[0] - y) / (2 * (1 - red))
    scale = 2 ** (bits - 8)
    if full:
        return np.array([y, cb, cr]) * (2**bits - 1) + [0, 128 * scale, 128 * scale]
    return np.array([16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr]) * scale


def linear(card: tuple[int, ...]) -> NDArray[np.float64]:
    """sRGB code values -> light, white at 1."""
    value = np.array(card) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, the inverse EOTF."""
    root = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: the inverse OOTF of a display of 1,000 nits, then the OETF."""
    luminance = nits @ [0.2627, 0.6780, 0.0593]
    scene = nits / 1000 * (luminance / 1000) ** (-0.2 / 1.2) if luminance else nits
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(12 * scene.clip(0.08) - 0.28466892) + 0.55991073
    )


def frame_of(
    codes: NDArray[np.float64], size: tuple[int, int] = (64, 64), kind: str = "yuv444p", **tags: int
) -> av.VideoFrame:
    planes = np.rint(codes).astype(np.uint8)[:, None, None].repeat(size[1], 1).repeat(size[0], 2)
    frame = av.VideoFrame.from_ndarray(planes, format=kind)
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def read(frame: av.VideoFrame) -> NDArray[np.int64]:
    """The one colour of a frame."""
    (picture,) = FrameResizer([ResizeCrop(32, 32)], None, MAX_PIXELS).pictures(frame)
    assert np.ptp(picture.reshape(-1, 3), axis=0).max() <= 1
    return picture[16, 16].astype(int)


def decoded(rgb: NDArray[np.float64], **tags: int) -> av.VideoFrame:
    """R'G'B' from 0 to 1 through a lossless film of 10 bits, its tags in the container."""
    coded = np.rint(ycbcr(rgb, BT2020, bits=10)).astype(np.uint16)
    made = io.BytesIO()
    with av.open(made, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for name, value in {**tags, "color_range": LIMITED}.items():
            setattr(stream.codec_context, name, value)
        planes = coded.repeat([64 * 64, 32 * 32, 32 * 32]).reshape(96, 64)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p10le")))
        container.mux(stream.encode())
    made.seek(0)
    with av.open(made) as container:
        frame = next(container.decode(video=0))
    assert {name: getattr(frame, name) for name in tags} == tags
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", LUMINANCE)
@pytest.mark.parametrize("size", [(64, 64), (1280, 720)])
def test_tags_are_believed(size, matrix, full):
    for card in CARDS[:2]:
        codes = ycbcr(np.array(card) / 255, matrix, full=full)
        frame = frame_of(codes, size, colorspace=matrix, color_range=FULL if full else LIMITED)
        assert np.abs(read(frame) - card).max() <= 2
        if full:
            assert np.abs(read(frame_of(codes, size, "yuvj444p", colorspace=matrix)) - card).max() <= 2


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((1280, 720), BT709),
        ((960, 720), BT709),
        ((720, 1280), BT709),
        ((1280, 536), BT709),  # a wide film, its bars cut off
        ((854, 480), SMPTE170M),
        ((720, 576), SMPTE170M),
        ((1024, 576), SMPTE170M),
        ((64, 48), SMPTE170M),
    ],
)
@pytest.mark.parametrize("tag", [UNSPECIFIED, 0, 3, 65])  # RGB, reserved, beyond the table: not true of YCbCr
def test_without_a_tag_the_size_decides(size, matrix, tag):
    card = CARDS[0]
    assert np.abs(read(frame_of(ycbcr(np.array(card) / 255, matrix), size, colorspace=tag)) - card).max() <= 2


def test_rgb_is_rgb_whatever_the_tags():
    planes = np.full((720, 1280, 3), CARDS[0], np.uint8)
    for tag in (0, 1, 2, 9, 10):
        frame = av.VideoFrame.from_ndarray(planes, format="rgb24").reformat(format="gbrp")
        frame.colorspace = tag
        assert np.abs(read(frame) - CARDS[0]).max() <= 1


@pytest.mark.parametrize("tags", [{"colorspace": 9}, {"colorspace": 10}, {"colorspace": 2}])
@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq), (HLG, hlg)])
def test_sdr_white_at_203_nits_is_read_as_the_sdr_picture(transfer, code, tags):
    """BT.2408: diffuse white of HDR. 10 is constant luminance, as which nobody codes."""
    for card in CARDS:
        nits = 203 * TO_BT2020 @ linear(card)
        frame = decoded(code(nits), color_trc=transfer, color_primaries=9, **tags)
        assert np.abs(read(frame) - card).max() <= 3, card


@pytest.mark.parametrize(("transfer", "code", "peak"), [(PQ, pq, 4000), (HLG, hlg, 1000)])
def test_highlights_are_rolled_off(transfer, code, peak):
    """Greys rise to 255 and never fall; white is within 6 of 255; a red light of 800 nits is still red."""
    nits = np.geomspace(50, peak, 12)
    greys = [read(decoded(code(np.full(3, value)), color_trc=transfer, color_primaries=9)) for value in nits]
    assert (np.diff(np.mean(greys, 1)) >= 0).all() and np.ptp(greys, axis=1).max() <= 1 and greys[-1].min() >= 253
    assert 249 <= read(decoded(code(np.full(3, 203.0)), color_trc=transfer, color_primaries=9)).min() <= 255
    red = read(decoded(code(TO_BT2020 @ [800.0, 40, 40]), color_trc=transfer, color_primaries=9))
    assert red[0] >= 250 and red[1:].max() <= 70


def test_the_roll_off_changes_nothing_below_its_knee_and_has_no_corner():
    grey = np.repeat(np.linspace(0, 20, 20_001, dtype=np.float32)[:, None], 3, axis=1)
    rolled = roll_off(grey)[:, 0]
    assert np.allclose(rolled[:901], grey[:901, 0]) and rolled.max() < 1
    slopes = np.diff(rolled) / 0.001
    assert (slopes > -1e-3).all() and np.abs(np.diff(slopes)).max() < 0.03


@pytest.mark.parametrize("transfer", [1, 14, 2])
def test_a_wide_gamut_is_brought_to_bt709s(transfer):
    for card in CARDS:
        light = TO_BT2020 @ linear(card)
        coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        frame = decoded(coded, colorspace=9, color_trc=transfer, color_primaries=9)
        assert np.abs(read(frame) - card).max() <= 3, card


def test_pictures_of_bt709_and_bt601_are_swscales_own():
    """Byte for byte as without any conversion of ours."""
    rng = np.random.default_rng(3)
    for tags in ({}, {"colorspace": 1, "color_primaries": 1, "color_trc": 1}, {"colorspace": 5, "color_primaries": 5}):
        frame = av.VideoFrame.from_ndarray(rng.integers(16, 235, (180, 160), dtype=np.uint8), format="yuv420p")
        for name, value in tags.items():
            setattr(frame, name, value)
        (picture,) = FrameResizer([ResizeCrop(60, 60)], None, MAX_PIXELS).pictures(frame)
        plain = frame.reformat(80, 60, "gbrp", interpolation="BICUBIC", threads=1).to_ndarray()
        assert np.array_equal(picture, plain[:, 10:70])
