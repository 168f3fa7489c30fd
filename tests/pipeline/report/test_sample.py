"""The sample is even, bounded and the same every time; what is read at offsets is what was written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.sample import SampledShard, evenly, sampled, teacher_heads
from shards.format.members import DamagedExample


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 30))
def test_picks_are_distinct_in_order_and_evenly_spread(clips, count):
    shards = [(f"train-{number:06d}", many) for number, many in enumerate(clips)]
    everything = [(name, clip) for name, many in shards for clip in range(many)]
    picks = evenly(shards, count)
    assert len(picks) == min(count, len(everything))
    places = [everything.index(pick) for pick in picks]
    gaps = np.diff(places)
    assert (gaps > 0).all()
    if len(gaps):
        assert gaps.max() - gaps.min() <= 1


def test_clips_are_read_back_as_written(full):
    heads = teacher_heads(full.folder, full.manifest)
    assert [head.teacher_set for head in heads] == ["first", "second"]
    picks = evenly([("train-000000", 4), ("train-000001", 1), ("validation-000000", 1)], 99)
    seen = 0
    for shard, clip in sampled(full.folder, picks, heads):
        found = shard.example(clip, 8_000)
        written = full.examples[found.key]
        assert found.meta == written.meta
        assert found.frames == written.frames
        np.testing.assert_array_equal(found.waveform, written.waveform)
        for head, posteriors in shard.posteriors(clip):
            wanted = written.posteriors["objects"]
            np.testing.assert_array_equal(posteriors, wanted if head.teacher_set == "first" else wanted[:, ::-1])
        assert len(shard.posteriors(clip)) == (2 if shard.shard == "train-000000" else 1)  # the relabel stopped there
        seen += 1
    assert seen == len(full.examples)


def test_a_tar_that_was_cut_is_named(full):
    tar = full.folder / "validation-000000.tar"
    tar.write_bytes(tar.read_bytes()[:2_000])
    shard = SampledShard(full.folder, "validation-000000", teacher_heads(full.folder, full.manifest))
    with pytest.raises(DamagedExample, match=r"validation-000000\.tar ends before c%2Emp4-00000"):
        shard.example(0, 8_000)
