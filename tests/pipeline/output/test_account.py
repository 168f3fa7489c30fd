"""Every input is counted once, whatever became of it."""

from dataclasses import replace

import pytest

from pipeline.output.account import account_of
from pipeline.report import write_report
from shards.errors import UserError
from shards.format.example import MediaAccount
from shards.format.writer import ShardWriter


def test_counts_by_hand(full):
    account = account_of(full.folder, full.manifest.clip)
    assert (account.inputs, account.total.videos, len(account.rejects)) == (8, 4, 1)
    assert (account.duplicates, account.waiting) == (2, 1)
    assert str(account) == (
        "8 inputs = 4 accepted + 1 rejected + 2 duplicates + 1 waiting; 6 clips, 0.00 h of sound; "
        "40.0 s = 9.0 s in clips + 31.0 s tail; repaired: 4 gaps_filled"
    )
    assert account.mostly_unused == 3 and len(account.mostly_unused_examples) == 3  # one gave 5 of its 10 s
    assert {name: (part.videos, part.clips, part.shards) for name, part in account.splits.items()} == {
        "train": (3, 5, 2),
        "validation": (1, 1, 1),
    }
    assert account.splits["train"].seconds == pytest.approx(2 + 2 + 1 + 0.5 + 1.5)
    assert account.windows == {4: 3, 3: 1, 2: 1, 1: 1}
    assert [(reason, count) for reason, count, _ in account.reasons] == [("no_sound", 1)]
    assert account.dropped == 3


def test_milliseconds_that_a_healthy_file_leaves_out_are_not_in_the_words():
    media = MediaAccount(10.023, 10.0, {"no_frame": 0.023, "before_common_start": 0.0499, "tail": 0.05})
    assert str(media) == "10.0 s = 10.0 s in clips + 0.1 s tail"


def test_a_clip_shorter_than_a_window_is_counted_apart(builder):
    example = builder.example("short.mp4", 0, windows=1)
    writer = ShardWriter(builder.folder, "train-000000", sample_rate=8_000)
    writer.write(replace(example, waveform=example.waveform[:-1]))
    writer.finish()
    builder.plan("train-000000", ["short.mp4"])
    assert account_of(builder.folder, builder.manifest.clip).windows == {0: 1}


def test_a_folder_without_a_plan_is_refused(builder):
    with pytest.raises(UserError, match=r"plan\.jsonl"):
        account_of(builder.folder, builder.manifest.clip)


def test_what_was_not_taken_is_said_in_the_summary_and_on_the_page(full):
    assert "not taken" not in str(account_of(full.folder, full.manifest.clip))
    with open(full.folder / "plan.jsonl", "r+") as stream:
        stream.truncate(stream.read().rindex("\n") + 1)
    full.row({"not_taken": {".jpg": 11}})
    full.row({"not_taken": {".jpg": 12, ".<b>\n": 3, "": 2}})
    account = account_of(full.folder, full.manifest.clip)
    assert account.inputs == 8
    assert str(account).endswith(r"; files not taken: 12 .jpg, 3 .<b>\n, 2 without suffix")
    page = write_report(full.folder).read_text()
    assert r"12 .jpg, 3 .&lt;b&gt;\n, 2 without suffix" in page
