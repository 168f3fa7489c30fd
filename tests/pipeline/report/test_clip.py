"""The strip of a clip is cut into the frames it was made of."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.report.clip import clip_view, cut_frames
from pipeline.report.sample import SampledShard, teacher_heads
from shards.format.members import DamagedExample
from tests.pipeline.conftest import strip


def colours(jpegs):
    return [np.asarray(Image.open(io.BytesIO(jpeg))).mean(axis=(0, 1)) for jpeg in jpegs]


@pytest.mark.parametrize("count", [1, 4])
def test_a_strip_is_cut_in_order(count):
    jpegs = cut_frames(strip(count), count)
    assert [Image.open(io.BytesIO(jpeg)).size for jpeg in jpegs] == [(16, 16)] * count
    for frame, colour in enumerate(colours(jpegs)):
        assert colour == pytest.approx([200 - 40 * frame, 30, 30 + 40 * frame], abs=3)


def test_without_a_strip_there_are_no_frames():
    assert cut_frames(b"", 4) == []


@pytest.mark.parametrize(("data", "count"), [(strip(4), 3), (strip(4), 0), (b"jpeg", 1), (strip(4)[:300], 4)])
def test_what_is_no_strip_of_so_many_is_named(data, count):
    with pytest.raises(DamagedExample, match="its frames cannot be read"):
        cut_frames(data, count)


def test_each_window_has_its_own_frames(full):
    shard = SampledShard(full.folder, "train-000000", teacher_heads(full.folder, full.manifest))
    view = clip_view(shard, 0, full.manifest.clip)
    assert [len(window.frames) for window in view.windows] == [1, 1, 1, 1]
    assert [second for window in view.windows for _, second in window.frames] == view.meta.frame_got
