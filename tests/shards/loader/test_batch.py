from __future__ import annotations

import numpy as np
import pytest

from shards.format.clip import ClipSpec
from shards.loader.batch import Batch, allocate

CLIP = ClipSpec(sample_rate=1000, seconds=2.0, windows=4)


def test_a_batch_is_sized_by_clip_and_heads() -> None:
    batch = allocate(3, CLIP, {"objects": 7, "scenes": 5})
    assert batch.waveform.shape == (3, 2000) and batch.rows == 3 and batch.count == 0
    assert {head: posterior.shape for head, posterior in batch.posteriors.items()} == {
        "objects": (3, 4, 7),
        "scenes": (3, 4, 5),
    }


def test_buffers_that_cannot_be_read_into_are_refused() -> None:
    good = allocate(4, CLIP, {"objects": 7})
    with pytest.raises(ValueError, match=r"posterior of objects must be .* 4 rows"):
        Batch(good.waveform, good.lengths, good.windows, {"objects": np.zeros((3, 4, 7), np.float16)})
    with pytest.raises(ValueError, match="contiguous"):
        Batch(np.zeros((4, 4000), np.int16)[:, ::2], good.lengths, good.windows, good.posteriors)
    with pytest.raises(ValueError, match="float32"):
        Batch(np.zeros((4, 2000), np.float32), good.lengths, good.windows, good.posteriors)  # type: ignore[arg-type]
    frozen = good.waveform.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        Batch(frozen, good.lengths, good.windows, good.posteriors)
