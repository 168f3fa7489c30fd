"""A video's two tries."""

import pytest

from pipeline.executor.job import ClipRecord, DecodeResult, DecodeTask, VideoJob
from shards.format.example import SoundFacts


def record(index, start=0.0, checksum=7):
    return ClipRecord(index, start, 2.0, [0.5], [0.5], still=False, sound=SoundFacts(100, checksum, -3.0, -9.0))


@pytest.fixture
def failed():
    """A first try that gave two clips and failed for what may be the machine's fault."""
    job = VideoJob(DecodeTask("train-000000", "a.mp4", "a", 0))
    assert job.begin() is job.task
    assert job.add(record(0), "first") and job.add(record(1), "second")
    job.end(DecodeResult("crashed"))
    assert job.failed and job.result is None and not job.complete
    job.begin()
    assert not job.failed
    return job


def test_the_second_try_goes_on_where_the_first_one_failed(failed):
    assert [failed.add(record(index), "again") for index in range(3)] == [False, False, True]
    failed.end(DecodeResult(clips=3))
    assert failed.result.reason is None and [clip.place for clip in failed.clips] == ["first", "second", "again"]


def test_there_is_no_third(failed):
    failed.end(DecodeResult("stalled"))
    assert (failed.failed, failed.result.reason) == (False, "stalled")


@pytest.mark.parametrize(
    "records", [[record(0)], [record(0), record(1, start=0.1), record(2)], [record(0), record(1, checksum=8)]]
)
def test_a_second_try_that_gives_other_clips_is_of_a_file_that_changed(failed, records):
    for each in records:
        failed.add(each, "again")
    failed.end(DecodeResult(clips=len(records)))
    assert failed.result.reason == "changed"


@pytest.mark.parametrize("reason", [None, "damaged", "not_found", "no_permission", "no_room"])
def test_what_is_the_files_own_fault_is_tried_once(reason):
    job = VideoJob(DecodeTask("train-000000", "a.mp4", "a", 0))
    job.begin()
    job.end(DecodeResult(reason))
    assert not job.failed and job.result.reason == reason
