"""A list with segments, groups and more columns, from its rows to the json of the clips, and labelled once more."""

import json
from pathlib import Path

import pytest

from pipeline.output.account import account_of
from pipeline.relabel.run import RelabelSettings
from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.settings import PipelineSettings
from pipeline.teachers.spec import TeacherSet
from shards.format.check import check
from shards.format.clip import ClipSpec
from shards.format.shard import examples
from shards.format.sidefile import finished

CLIP = ClipSpec(sample_rate=22_050, seconds=2.0, windows=4)
MACHINE = {"device": "cpu", "decoders": 1, "teacher_processes": 1, "precision": "float32"}
LIST = """\ufeffpath;start;end;group;label
a.mp4;1;3.5;film;"dog; barking"
a.mp4;4;;film;ü
b.mp4;;;film;
a.mp4;50;60;film;late
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, render_video, small_teachers):
    videos, shards = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("shards")
    render_video(videos / "a.mp4", 7.0, seed=1)
    render_video(videos / "b.mp4", 2.0, seed=2)
    (videos / "list.csv").write_text(LIST, encoding="utf-8")
    places = {"videos": str(videos / "list.csv"), "shards": str(shards)}
    run(PipelineSettings(**places, teachers=small_teachers, clip=CLIP, validation_share=0.5, **MACHINE))
    return places


def clips_of(folder):
    return [example for side in finished(folder) for example in examples(folder, side, CLIP.sample_rate)]


def test_clips_are_cut_from_segments_and_carry_what_is_given(made):
    folder = Path(made["shards"])
    found = {example.key: example.meta for example in clips_of(folder)}
    assert {key: (meta.path, meta.start, meta.seconds, meta.given) for key, meta in found.items()} == {
        "a%2Emp4+1+3%2E5-00000": ("a.mp4", 1.0, 2.0, {"label": "dog; barking"}),
        "a%2Emp4+1+3%2E5-00001": ("a.mp4", 3.0, 0.5, {"label": "dog; barking"}),
        "a%2Emp4+4+-00000": ("a.mp4", 4.0, 2.0, {"label": "ü"}),
        "a%2Emp4+4+-00001": ("a.mp4", 6.0, 1.0, {"label": "ü"}),
        "b%2Emp4-00000": ("b.mp4", 0.0, 2.0, {"label": ""}),
    }
    assert len({side.split for side in finished(folder)}) == 1  # one group
    assert check(folder).clips == 5


def test_each_row_is_accounted_for(made):
    folder = Path(made["shards"])
    account = account_of(folder, CLIP)
    assert (account.inputs, account.total.videos, account.waiting) == (4, 3, 0)
    assert account.media.seconds == pytest.approx(2.5 + 3 + 2, abs=0.1)  # AAC pads its last frame
    assert account.media.in_clips == 7.5
    (reject,) = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert (reject["key"], reject["reason"]) == ("a%2Emp4+50+60", "too_short")


def test_segments_are_labelled_again_by_the_same_pictures(made, small_spec):
    folder = Path(made["shards"])
    relabel(RelabelSettings(**made, teachers=TeacherSet("again", {"objects": small_spec}), **MACHINE))
    labels, again = (
        [(side.keys, side.checksums["objects.npy"]) for side in finished(place)]
        for place in (folder, folder / "teachers" / "again")
    )
    assert labels == again
