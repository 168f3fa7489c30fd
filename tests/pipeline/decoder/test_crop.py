"""Pictures of frames: the same values as packed RGB, whatever the frames are made of; sizes as torchvision's."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from shards.media.file import MAX_PIXELS, UnreadableMedia


def frame(width: int, height: int, kind: str = "rgb24") -> av.VideoFrame:
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) % 256], axis=-1).astype(np.uint8)
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=kind)


@pytest.mark.parametrize(
    "kind", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuva420p", "nv12", "gray", "rgb24", "bgra"]
)
def test_values_are_those_of_packed_rgb(kind):
    given = frame(160, 120, kind)
    (picture,) = FrameResizer([ResizeCrop(60, 60)], None, MAX_PIXELS).pictures(given)
    full_chroma = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT
    packed = given.reformat(80, 60, "rgb24", interpolation=full_chroma, threads=1).to_ndarray()[:, 10:70]
    assert np.abs(picture.astype(int) - packed.astype(int)).max() <= 1
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous


def test_a_colour_stays_what_it_is():
    red = np.zeros((64, 64, 3), np.uint8) + np.array([200, 40, 30], np.uint8)
    given = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format="yuv420p")
    (picture,) = FrameResizer([ResizeCrop(32, 32)], None, MAX_PIXELS).pictures(given)
    assert np.abs(picture.astype(int) - [200, 40, 30]).max() <= 3


@pytest.mark.parametrize(("width", "height"), [(640, 360), (361, 640), (256, 256), (853, 480), (100, 37)])
def test_crops_lie_where_torchvision_puts_them(width, height):
    """Nothing is scaled, so that every pixel tells where it comes from."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    torch = pytest.importorskip("torch")
    short = min(width, height)
    given = frame(width, height)
    (picture,) = FrameResizer([ResizeCrop(short, short * 7 // 8)], None, MAX_PIXELS).pictures(given)
    tensor = torch.from_numpy(given.to_ndarray()).permute(2, 0, 1)
    expected = functional.center_crop(functional.resize(tensor, [short]), [short * 7 // 8] * 2).permute(1, 2, 0)
    assert np.array_equal(picture, expected.numpy())


def test_frames_of_changing_size_pass_through_one_resizer():
    resizer = FrameResizer([ResizeCrop(30, 24)], None, MAX_PIXELS)
    for given in (frame(64, 48), frame(200, 100, "yuv420p"), frame(64, 48)):
        assert resizer.pictures(given)[0].shape == (24, 24, 3)


def test_what_is_too_large():
    with pytest.raises(UnreadableMedia, match="too_large"):
        FrameResizer([ResizeCrop(30, 24)], None, 64 * 48 - 1).pictures(frame(64, 48))
    with pytest.raises(UnreadableMedia, match="too_large"):
        FrameResizer([ResizeCrop(30, 24)], Fraction(10_000), 10**5).pictures(frame(64, 48))


def test_a_crop_must_fit():
    with pytest.raises(ValueError, match="does not fit"):
        ResizeCrop(resize=224, crop=256)
