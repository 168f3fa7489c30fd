"""Batches: the same cuts in whatever order videos are decoded, and none that spans two shards."""

import random

import pytest

from pipeline.executor.batches import Batches
from pipeline.executor.job import Clip, ClipRecord, DecodeResult, DecodeTask, VideoJob

PLAN = [("a", 3), ("a", 0), ("a", 2), ("b", 1), ("b", 4), ("c", 2)]  # the shard of each video, and its clips
CUTS = {1: [1] * 12, 2: [2, 2, 1, 2, 2, 1, 2], 4: [4, 1, 4, 1, 2], 9: [5, 5, 2]}


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("seed", range(5))
def test_cuts_follow_the_plan_and_not_the_order_of_arrival(size, seed):
    jobs = [VideoJob(DecodeTask(shard, f"{n}.mp4", f"{n}", n)) for n, (shard, _) in enumerate(PLAN)]
    arrivals = [n for n, (_, clips) in enumerate(PLAN) for _ in range(clips + 1)]  # the last one is the result
    random.Random(seed).shuffle(arrivals)
    batches, cut, added = Batches(size), [], 0
    for n in arrivals:
        while added <= n:
            batches.add(jobs[added])
            added += 1
        job = jobs[n]
        if len(job.clips) < PLAN[n][1]:
            job.clips.append(Clip(ClipRecord(len(job.clips), 0.0, 2.0, 0, [], [], False, []), place=n))
        else:
            job.result = DecodeResult()
        cut += batches.cut(PLAN[added][0] if added < len(PLAN) else None)
    assert [len(batch) for batch in cut] == CUTS[size]
    found = [(clip.place, clip.record.index) for batch in cut for clip in batch]
    assert found == [(n, index) for n, (_, clips) in enumerate(PLAN) for index in range(clips)]
    assert all(len({PLAN[clip.place][0] for clip in batch}) == 1 for batch in cut)
