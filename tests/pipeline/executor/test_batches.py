"""Batches: the same cuts in whatever order videos are decoded."""

import random

import pytest

from pipeline.executor.batches import Batches
from pipeline.executor.job import Clip, ClipRecord, DecodeResult, DecodeTask, VideoJob

PLAN = [3, 0, 2, 0, 1, 4, 2, 0]  # clips of each video
CUTS = {1: [1] * 12, 2: [2] * 6, 5: [5, 5, 2], 12: [12], 20: [12]}


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("seed", range(5))
def test_cuts_follow_the_plan_and_not_the_order_of_arrival(size, seed):
    jobs = [VideoJob(DecodeTask("a", f"{n}.mp4", f"{n}", n)) for n in range(len(PLAN))]
    arrivals = [n for n, clips in enumerate(PLAN) for _ in range(clips + 1)]  # the last one is the result
    random.Random(seed).shuffle(arrivals)
    batches, cut, added = Batches(size), [], 0
    for n in arrivals:
        assert not (added and batches.is_empty) or all(job.result for job in jobs[:added])
        while added <= n:
            batches.add(jobs[added])
            added += 1
        job = jobs[n]
        if len(job.clips) < PLAN[n]:
            job.clips.append(Clip(ClipRecord(len(job.clips), 0.0, 2.0, [], [], False), place=n))
        else:
            job.result = DecodeResult()
        cut += batches.cut(is_whole=added == len(PLAN))
    assert batches.is_empty
    assert [len(batch) for batch in cut] == CUTS[size]
    found = [(clip.place, clip.record.index) for batch in cut for clip in batch]
    assert found == [(n, index) for n, clips in enumerate(PLAN) for index in range(clips)]


def test_the_last_clips_wait_for_more_videos_unless_there_are_none():
    job = VideoJob(DecodeTask("a", "a.mp4", "a", 0))
    job.clips.append(Clip(ClipRecord(0, 0.0, 2.0, [], [], False), place=0))
    job.result = DecodeResult()
    batches = Batches(2)
    batches.add(job)
    assert list(batches.cut(is_whole=False)) == [] and not batches.is_empty
    assert list(batches.cut(is_whole=True)) == [job.clips] and batches.is_empty
