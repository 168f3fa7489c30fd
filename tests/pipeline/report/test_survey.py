"""Every input is counted once, and the counts are those that the pipeline itself arrives at."""

from dataclasses import replace

import pytest

from pipeline.output.account import account_for
from pipeline.report.survey import survey_of
from pipeline.videos.plan import Plan
from shards.errors import UserError
from shards.format.sidefile import finished
from shards.format.writer import ShardWriter


def test_counts_by_hand(full):
    survey = survey_of(full.folder, full.manifest.clip)
    assert (survey.inputs, survey.total.videos, len(survey.rejects), survey.duplicates, survey.waiting) == (
        8,
        4,
        1,
        2,
        1,
    )
    assert {name: (part.videos, part.clips, part.shards) for name, part in survey.splits.items()} == {
        "train": (3, 5, 2),
        "validation": (1, 1, 1),
    }
    assert survey.splits["train"].seconds == pytest.approx(2 + 2 + 1 + 0.5 + 1.5)
    assert survey.windows == {4: 3, 3: 1, 2: 1, 1: 1}
    assert [(reason, count) for reason, count, _ in survey.reasons] == [("no_sound", 1)]
    assert survey.dropped == 3


def test_counts_are_those_of_the_pipelines_own_account(full):
    survey = survey_of(full.folder, full.manifest.clip)
    account = account_for(Plan.load(full.folder), finished(full.folder), full.manifest.clip.sample_rate)
    assert account.inputs == survey.inputs
    assert account.accepted == survey.total.videos
    assert {reject.key for reject in account.rejects} == survey.rejects.keys()
    assert (account.duplicates, account.waiting) == (survey.duplicates, survey.waiting)
    assert (account.clips, account.seconds) == (survey.total.clips, pytest.approx(survey.total.seconds))


def test_a_clip_shorter_than_a_window_is_counted_apart(builder):
    example = builder.example("short.mp4", 0, windows=1)
    writer = ShardWriter(builder.folder, "train-000000", sample_rate=8_000)
    writer.write(replace(example, waveform=example.waveform[:-1]))
    writer.finish()
    builder.plan("train-000000", ["short.mp4"])
    assert survey_of(builder.folder, builder.manifest.clip).windows == {0: 1}


def test_a_folder_without_a_plan_is_refused(builder):
    with pytest.raises(UserError, match=r"plan\.jsonl"):
        survey_of(builder.folder, builder.manifest.clip)
