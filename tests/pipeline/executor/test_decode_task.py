"""What is recorded of a decoded clip."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import record_of


@pytest.mark.parametrize(("values", "still"), [([9, 9], True), ([200, 9, 100], False), ([9], False)])
def test_a_record_has_its_frames_side_by_side_where_they_are_kept_and_knows_a_still(values, still):
    frames = np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])
    times = [0.25 + index for index in range(len(values))]
    clip = DecodedClip(3, 0.0, 2.0, np.zeros(100, np.int16), [frames, frames[:, :8, :8]], times, times)
    record = record_of(clip, keep_frames=True)
    assert (record.index, record.samples, record.got, record.still) == (3, 100, times, still)
    with Image.open(io.BytesIO(record.frames)) as picture:
        assert picture.format == "JPEG"
        parts = np.split(np.asarray(picture), len(values), axis=1)
    assert [part.shape for part in parts] == [(32, 32, 3)] * len(values)
    assert [round(part.mean()) for part in parts] == values
    assert record_of(clip, keep_frames=False).frames == b""
