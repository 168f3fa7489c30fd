"""The plan: stable, append-only, whole after a kill; duplicates recorded and taken once."""

import hashlib
import json
import math

import pytest

from pipeline.videos.duplicates import find_duplicates
from pipeline.videos.listing import Video, find_videos
from pipeline.videos.plan import NAME, Plan, ShardPolicy, Size

DEALING = ShardPolicy(Size(videos=3), 0.3, 0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "shards").mkdir()
    return tmp_path


def fill(folder, names):
    for name in names:
        (folder / "videos" / name).write_text(f"content of {name}")


def planned(folder, hashes=None):
    plan = Plan.load(folder / "shards")
    plan.extend(find_videos(str(folder / "videos")), lambda keys: hashes or {}, DEALING)
    return plan


def test_every_video_is_planned_once_in_a_shard_of_its_split(folder):
    fill(folder, [f"{number:02d}.mp4" for number in range(20)])
    plan = planned(folder)
    assert sorted(video.path for video in plan.videos) == [f"{number:02d}.mp4" for number in range(20)]
    assert {shard.split for shard in plan.shards} == {"train", "validation"}
    assert all(len(shard.videos) <= 3 for shard in plan.shards)
    assert len({shard.shard for shard in plan.shards}) == len(plan.shards)


def test_a_second_run_adds_nothing_and_new_videos_become_new_shards(folder):
    fill(folder, [f"{number:02d}.mp4" for number in range(10, 20)])
    before = planned(folder).shards
    text = (folder / "shards" / NAME).read_text()
    assert planned(folder).shards == before
    assert (folder / "shards" / NAME).read_text() == text
    fill(folder, ["00.mp4", "99.mp4"])
    after = planned(folder).shards
    assert after[: len(before)] == before
    assert sorted(video.path for shard in after[len(before) :] for video in shard.videos) == ["00.mp4", "99.mp4"]


@pytest.mark.parametrize("kept", range(0, 1500, 97))
def test_a_plan_torn_anywhere_is_completed_to_the_same_plan(folder, kept):
    fill(folder, [f"{number:02d}.mp4" for number in range(10)])
    whole = planned(folder).shards
    path = folder / "shards" / NAME
    path.write_bytes(path.read_bytes()[:kept])
    assert planned(folder).shards == whole
    assert Plan.load(folder / "shards").shards == whole


def test_a_repeated_content_is_recorded_and_taken_once_in_path_order(folder):
    fill(folder, ["a.mp4", "b.mp4"])
    (folder / "videos" / "c.mp4").write_text("content of a.mp4")
    (folder / "videos" / "d.mp4").write_text("content of X.mp4")  # same size, other content
    plan = planned(folder)
    assert [(duplicate.path, duplicate.of) for duplicate in plan.duplicates] == [("c.mp4", "a%2Emp4")]
    assert sorted(video.path for video in plan.videos) == ["a.mp4", "b.mp4", "d.mp4"]
    assert len(planned(folder).duplicates) == 1


def test_a_planned_video_wins_over_a_new_one_that_sorts_before_it(folder):
    fill(folder, ["b.mp4"])
    planned(folder)
    (folder / "videos" / "a.mp4").write_text("content of b.mp4")
    assert [(d.path, d.of) for d in planned(folder).duplicates] == [("a.mp4", "b%2Emp4")]


def test_a_finished_video_wins_even_when_its_file_is_gone(folder):
    fill(folder, ["b.mp4"])
    planned(folder)
    content = (folder / "videos" / "b.mp4").read_bytes()
    (folder / "videos" / "b.mp4").rename(folder / "videos" / "a.mp4")
    hashes = {"b%2Emp4": hashlib.sha256(content).hexdigest()}
    assert [(d.path, d.of) for d in planned(folder, hashes).duplicates] == [("a.mp4", "b%2Emp4")]


def test_files_that_differ_only_behind_the_first_64_kib_are_no_duplicates(tmp_path):
    for name, last in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(bytes(70_000) + last)
    videos = [Video(name, 70_001) for name in "abc"]
    assert find_duplicates(videos, [], str(tmp_path), {}) == {"c": "a"}


def test_an_unreadable_file_is_nobodys_duplicate(tmp_path):
    videos = [Video("gone-1", 5), Video("gone-2", 5), Video("pipe", -1), Video("pipe-2", -1)]
    assert find_duplicates(videos, [], str(tmp_path), {}) == {}


def test_a_shard_is_closed_by_input_bytes_too(folder):
    fill(folder, [f"{number}.mp4" for number in range(6)])
    plan = Plan(folder / "shards" / NAME)
    dealing = ShardPolicy(Size(videos=100, input_gigabytes=40e-9), 0.0, 0)
    assert plan.extend(find_videos(str(folder / "videos")), lambda keys: {}, dealing)
    assert [shard.count for shard in plan.shards] == [len(shard.videos) for shard in plan.shards] == [3, 3]


def test_hashes_are_asked_only_of_videos_whose_size_a_new_one_has(folder):
    fill(folder, ["a.mp4", "bb.mp4"])
    planned(folder)
    fill(folder, ["cc.mp4"])
    asked = []
    plan = Plan.load(folder / "shards")
    plan.extend(find_videos(str(folder / "videos")), lambda keys: asked.append(keys) or {}, DEALING)
    assert asked == [{"bb%2Emp4"}] and plan.duplicates == []


def test_rows_hold_relative_paths_only(folder):
    fill(folder, ["a.mp4"])
    planned(folder)
    (row,) = [json.loads(line) for line in (folder / "shards" / NAME).read_text().splitlines()]
    assert row == {"shard": row["shard"], "videos": [{"key": "a%2Emp4", "path": "a.mp4", "bytes": 16}]}


def test_what_a_folder_holds_beside_its_inputs_is_noted_when_it_changes(folder):
    fill(folder, ["a.mp4", "a.jpg"])
    plan = planned(folder)
    assert plan.note({".jpg": 1}) and not plan.note({".jpg": 1})
    again = Plan.load(folder / "shards")
    assert again.not_taken == {".jpg": 1} and [shard.count for shard in again.shards] == [1]
    assert not again.note({".jpg": 1}) and again.note({".jpg": 2, ".part": 1})
    assert Plan.load(folder / "shards").not_taken == {".jpg": 2, ".part": 1}


def planned_list(folder, rows, hashes=None):
    (folder / "videos" / "list.csv").write_text(rows)
    plan = Plan.load(folder / "shards")
    plan.extend(find_videos(str(folder / "videos" / "list.csv")), lambda keys: hashes or {}, DEALING)
    return plan


ROWS = "path,start,end,group,label\na.mp4,0,10,g,x\na.mp4,10,20,g,y\nb.mp4,,,,z\n"


def test_what_a_list_says_is_planned_and_read_back(folder):
    fill(folder, ["a.mp4", "b.mp4"])
    plan = planned_list(folder, ROWS)
    found = sorted(plan.videos, key=lambda video: video.key)
    assert [(v.path, v.start, v.end, v.group, v.given) for v in found] == [
        ("a.mp4", 0.0, 10.0, "g", {"label": "x"}),
        ("a.mp4", 10.0, 20.0, "g", {"label": "y"}),
        ("b.mp4", 0.0, math.inf, "", {"label": "z"}),
    ]
    rows = (folder / "shards" / NAME).read_text()
    assert sorted(Plan.load(folder / "shards").videos, key=lambda video: video.key) == found
    planned_list(folder, ROWS)
    assert (folder / "shards" / NAME).read_text() == rows
    more = planned_list(folder, ROWS + "a.mp4,20,,g,y\na.mp4,1,2,g,y\n")
    assert [(v.start, v.end) for v in list(more.videos)[3:]] == [(1.0, 2.0), (20.0, math.inf)]


def test_segments_of_one_file_are_no_duplicates_and_the_same_one_of_a_copy_is(folder):
    fill(folder, ["a.mp4"])
    (folder / "videos" / "c.mp4").write_text("content of a.mp4")
    rows = "path,start,end\na.mp4,0,10\na.mp4,10,20\nc.mp4,10,20\nc.mp4,30,\na.mp4,30,\nc.mp4,40,\n"
    plan = planned_list(folder, rows)
    assert [(each.key, each.of, each.start, each.end) for each in plan.duplicates] == [
        ("c%2Emp4+10+20", "a%2Emp4+10+20", 10.0, 20.0),
        ("c%2Emp4+30+", "a%2Emp4+30+", 30.0, math.inf),
    ]
    assert len(list(plan.videos)) == 4
    text = (folder / "shards" / NAME).read_text()
    assert planned_list(folder, rows).duplicates == plan.duplicates
    assert (folder / "shards" / NAME).read_text() == text
    hashes = {"a%2Emp4+0+10": hashlib.sha256((folder / "videos" / "a.mp4").read_bytes()).hexdigest()}
    later = planned_list(folder, rows + "c.mp4,,10\na.mp4,50,60\n", hashes)
    assert [each.key for each in later.duplicates[2:]] == ["c%2Emp4+0+10"]


def test_a_file_alone_of_its_size_is_not_read_however_many_segments_it_has(folder, monkeypatch):
    fill(folder, ["a.mp4", "bb.mp4"])
    monkeypatch.setattr("pipeline.videos.duplicates.open_place", None)
    rows = "".join(f"{name},{start},{start + 5}\n" for name in ("a.mp4", "bb.mp4") for start in range(20))
    assert len(list(planned_list(folder, "path,start,end\n" + rows).videos)) == 40


@pytest.mark.parametrize("column", ["group", "path"])
def test_a_group_and_the_segments_of_a_file_are_in_one_split(folder, column):
    """A thousand takes of 200 films, by a column, or as segments of files."""
    path = {"group": "take {take} of {film}.mp4,,,film {film}", "path": "{film}.mp4,{take},{end},"}[column]
    rows = (path.format(film=film, take=take, end=take + 1) for film in range(200) for take in range(5))
    plan = planned_list(folder, "path,start,end,group\n" + "\n".join(rows) + "\n")
    splits: dict[str, set[str]] = {}
    for shard in plan.shards:
        for video in shard.videos:
            splits.setdefault(getattr(video, column), set()).add(shard.split)
    assert len({video.key for video in plan.videos}) == 1000 and len(splits) == 200
    assert all(len(found) == 1 for found in splits.values())
    assert 30 < sum(found == {"validation"} for found in splits.values()) < 90  # 60 expected
