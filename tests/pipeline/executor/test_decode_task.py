"""What is recorded of a decoded clip."""

import numpy as np
import pytest

from pipeline.decoder.clips import DecodedClip
from pipeline.executor.decode_task import record_of


@pytest.mark.parametrize(("values", "still"), [([9, 9], True), ([9, 8], False), ([9], False)])
def test_a_record_has_the_jpegs_that_are_kept_and_knows_a_still(values, still):
    frames = np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])
    times = [0.25 + index for index in range(len(values))]
    clip = DecodedClip(3, 0.0, 2.0, np.zeros(100, np.int16), [frames, frames[:, :8, :8]], times, times)
    record = record_of(clip, keep_frames=True)
    assert (record.index, record.samples, record.got, record.still) == (3, 100, times, still)
    assert [jpeg[:2] for jpeg in record.jpegs] == [b"\xff\xd8"] * len(values)
    assert record_of(clip, keep_frames=False).jpegs == []
