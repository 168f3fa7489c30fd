"""Pictures of frames: the same values as packed RGB, whatever the frames are made of; sizes as torchvision's."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from PIL import Image

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from shards.media.file import MAX_PIXELS
from shards.media.rejects import UnreadableMedia
from tests.media import film


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
    with pytest.raises(ValueError, match="is larger than the picture"):
        ResizeCrop(resize=224, crop=256)


# --- display matrices -----------------------------------------------------------------------------------------------

IDENTITY, HALF_TURN, MIRROR, FLIP = (1, 0, 0, 1), (-1, 0, 0, -1), (-1, 0, 0, 1), (1, 0, 0, -1)
QUARTERS = [(0, 1, -1, 0), (0, -1, 1, 0)]
TRANSPOSED = [(0, 1, 1, 0), (0, -1, -1, 0)]
BLOCKS = np.random.default_rng(5).integers(0, 8, (6, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)[..., None] * 30 + 20


def shown_as(picture: np.ndarray, matrix: tuple[float, float, float, float]) -> np.ndarray:
    """Every pixel put where ISO 14496-12 6.2.2 has it: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    shown = np.zeros((down.max() + 1, across.max() + 1, picture.shape[2]), picture.dtype)
    shown[down, across] = picture
    return shown


def seen_with(matrix: tuple[float, float, float, float], folder: Path) -> np.ndarray:
    """The centre 48 x 48 of a film of BLOCKS, 64 x 48, with this matrix in its track header."""
    made = film(folder / "a.mp4", 0.2, picture=lambda _: BLOCKS.repeat(3, 2), tracks=[], options={"crf": "1"})
    content = bytearray(made.read_bytes())
    place = content.find(b"tkhd") + 44
    for slot, value in zip((0, 1, 3, 4), matrix, strict=True):
        content[place + 4 * slot : place + 4 * slot + 4] = struct.pack(">i", round(value * 65536))
    made.write_bytes(content)
    with av.open(str(made)) as container:
        (picture,) = FrameResizer([ResizeCrop(48, 48)], None, MAX_PIXELS).pictures(next(container.decode(video=0)))
    return picture.astype(int)


# All eight and the zeros below were compared with what ffmpeg 5.1 shows of such a film (autorotate): no pixel differs.
@pytest.mark.parametrize("matrix", [IDENTITY, HALF_TURN, MIRROR, FLIP, *QUARTERS, *TRANSPOSED])
def test_a_frame_is_turned_and_mirrored_as_its_display_matrix_says(matrix, tmp_path):
    expected = shown_as(BLOCKS[:, 8:56], matrix)
    assert np.abs(seen_with(matrix, tmp_path) - expected).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "nearest"),
    [
        ((0, 0, 0, 0), IDENTITY),
        ((0.9, 0.4, -0.4, 0.9), IDENTITY),
        ((0.4, 0.9, -0.9, 0.4), QUARTERS[0]),
        ((0.4, 0.9, 0.9, -0.4), TRANSPOSED[0]),
        ((-2, 0, 0, 2), MIRROR),
    ],
)
def test_an_odd_matrix_counts_as_the_orientation_nearest_to_it(matrix, nearest, tmp_path):
    assert np.abs(seen_with(matrix, tmp_path) - shown_as(BLOCKS[:, 8:56], nearest)).mean() < 3


def test_side_data_without_a_name_leave_the_angle():
    """PyAV refuses all of a frame's side data where it has no name for one of them, as for a camera's EXIF."""
    exif, made = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(BLOCKS.repeat(3, 2)[:, 8:56]).save(made, "JPEG", exif=exif, quality=95)
    with av.open(made, format="mjpeg") as container:
        given = next(container.decode(video=0))
    (picture,) = FrameResizer([ResizeCrop(48, 48)], None, MAX_PIXELS).pictures(given)
    assert np.abs(picture.astype(int) - np.rot90(BLOCKS[:, 8:56], -1)).mean() < 3
