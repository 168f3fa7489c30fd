"""Which rows of failed videos stop a run, and which are rejects."""

import pytest

from pipeline.executor.job import DecodeResult, DecodeTask, VideoJob
from pipeline.output.faults import IN_A_ROW, FaultLimit
from shards.errors import UserError


def jobs(*reasons):
    for number, reason in enumerate(reasons):
        task = DecodeTask("train-000003", f"{number}.mp4", f"{number}", number)
        yield VideoJob(task, result=DecodeResult(reason, "so it was"))


def watched(limit, *reasons):
    return len(list(limit.watched("train-000003", jobs(*reasons))))


def test_a_long_row_stops_wherever_it_stands_and_one_good_video_breaks_it():
    most = ["crashed"] * (IN_A_ROW - 1)
    limit = FaultLimit(has_read=True)
    assert watched(limit, *most, None, *most, "not_media", *most) == 3 * IN_A_ROW - 1
    message = (
        r"8 videos of train-000003 in a row failed twice, at last '8\.mp4': io_error: so it was\. "
        r".*the same command again.*max_reject_share=1"
    )
    with pytest.raises(UserError, match=message):
        watched(limit, None, *most, "io_error", None)


@pytest.mark.parametrize("reason", ["out_of_memory", "io_error", "unreachable", "crashed", "stalled"])
def test_a_shard_that_fails_whole_stops_a_run_that_has_read_nothing(reason):
    with pytest.raises(UserError, match=r"1 video of .* failed twice"):
        watched(FaultLimit(), reason)
    with pytest.raises(UserError, match=r"2 videos of .* failed twice"):
        watched(FaultLimit(), reason, "crashed")
    assert watched(FaultLimit(has_read=True), reason, reason) == 2
    assert watched(FaultLimit(), reason, None) == watched(FaultLimit(), "damaged", reason) == 2


def test_what_is_rejected_already_or_may_be_stops_nothing():
    many = ["stalled"] * 2 * IN_A_ROW
    assert watched(FaultLimit(frozenset({"train-000003"})), *many) == len(many)
    assert watched(FaultLimit(is_off=True), *many) == len(many)
