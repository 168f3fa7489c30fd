"""What the bench codes is read back as the picture it was, and otherwise where its tags are kept from the reader."""

from __future__ import annotations

import av
import numpy as np
import pytest

from evaluate.bench.video.colour import CODINGS, coded, masters
from pipeline.decoder.crop import FrameResizer, ResizeCrop
from shards.media.file import MAX_PIXELS
from tests.media import film

CARD = np.full((720, 960, 3), (192, 48, 32), np.uint8)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_card_comes_back_by_its_tags_alone(coding):
    (read,) = FrameResizer([ResizeCrop(32, 32)], None, MAX_PIXELS).pictures(coded(CARD, *CODINGS[coding]))
    off = np.abs(read[16, 16].astype(int) - CARD[0, 0]).max()
    assert off > 10 if "read as" in coding else off <= 3


def test_masters_are_key_frames_at_720_lines(tmp_path):
    path = film(tmp_path / "a.mp4", 6.0, size=(64, 48), options={"g": "25"})
    with av.open(str(path)) as container:
        keys = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0) if frame.key_frame]
    found = list(masters(path, 3))
    assert [picture.shape for picture in found] == [(720, 960, 3)] * 3
    for picture, index in zip(found, (0, 2, len(keys) - 1), strict=True):
        assert abs(picture.mean() - keys[index].mean()) < 2
