"""A run's name keeps a sweep's jobs apart; what a run must agree on with itself is recorded flat."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from shards.cli.command import compose
from shards.loader.catalog import load_catalog
from shards.loader.keep import Keep
from train.settings import TrainSettings, plain, record

MakeShards = Callable[..., Path]


def settings(*overrides: str) -> TrainSettings:
    return compose(TrainSettings, "train", ["shards=outputs/shards/mine", *overrides])


def test_the_papers_values_are_the_defaults() -> None:
    chosen = settings()
    assert (chosen.student.name, chosen.loss, chosen.batch, chosen.steps) == ("soundnet8", "kl", 64, 100_000)
    assert (chosen.lr, chosen.beta1, chosen.device, chosen.resume) == (1e-3, 0.9, "cuda", "auto")
    assert chosen.learn_from is None and not chosen.augment.roll and chosen.augment.gain_db == 0


def test_the_jobs_of_a_sweep_never_meet() -> None:
    jobs = [
        settings(*overrides.split())
        for overrides in (
            *("", "loss=l2", "lr=1e-4", "seed=1", "student=soundnet5", "student=autoencoder", "learn_from=[objects]"),
            *("learn_from=[scenes]", "learn_from=[objects,scenes]", "batch=32", "teacher_set=resnet50"),
            *("augment.roll=true", "augment.gain_db=3", "keep.min_rms_db=-60", "streaming.block_shards=2"),
            *("shards=outputs/other/mine", "student.output.stride=4", "precision=float32", "loss=l2 lr=1e-4"),
        )
    ]
    for one, other in combinations(jobs, 2):
        assert one.folder != other.folder
    assert all(job.folder.parent == Path("outputs/runs") for job in jobs)
    assert jobs[-1].folder.name.startswith("soundnet8-l2-mine-lr=0.0001-")
    assert settings("learn_from=[objects]").folder == jobs[6].folder, "the same settings, the same folder"
    same = ["resume=never", "steps=10", "device=cpu", "compile=false", "streaming.threads=1", "validate_every=7"]
    assert settings(*same).folder == jobs[0].folder, "more steps, or another device, go on with the same run"
    assert settings("run=here").folder == Path("here")


def test_clips_are_chosen_on_the_command_line() -> None:
    keep = settings("keep.min_rms_db=-60", "keep.min_peak_db=-50.5", "keep.given={class: [dog, cat], 7: [1, a b]}").keep
    assert keep == Keep(-50.5, -60.0, {"class": ["dog", "cat"], "7": ["1", "a b"]})
    assert settings("+keep.given.class=[dog]").keep.given == {"class": ["dog"]}
    assert settings().keep == Keep()


def test_a_long_name_stays_a_name() -> None:
    folder = settings("shards=s3://bucket/a b/" + "x" * 300, "learn_from=[a/b]").folder
    assert folder.parent == Path("outputs/runs") and len(folder.name) < 140


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("batch=0", "batch"),
        ("lr=0", "seed at least 0, not lr=0 beta1=0.9 seed=0"),
        ("beta1=1", "beta1"),
        ("save_every=-1", "save_every"),
        ("accumulate=3", "accumulate"),
        ("clip_norm=0", "clip_norm"),
    ],
)
def test_impossible_values_are_refused(override: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        settings(override)


def test_the_record_names_each_thing_that_may_not_change(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, {"train-000000": 3})), "train")
    first = record(settings(), catalog)
    same = [*("steps=5", "run=x", "device=cpu", "compile=false", "streaming.threads=9", "log_every=7"), "save_every=9"]
    assert record(settings(*same), catalog) == first
    changes = {
        "loss=l2": "loss",
        "lr=1": "lr",
        "beta1=0.5": "beta1",
        "batch=8": "batch",
        "seed=2": "seed",
        "student=soundnet5": "student",
        "student.output.stride=4": "student.conv8",
        "augment.roll=true": "augment.roll",
        "streaming.block_shards=2": "block_shards",
        "precision=float32": "precision",
        "keep.min_rms_db=-60": "keep.min_rms_db",
        "keep.given={class: [dog]}": "keep.given.class",
    }
    for override, key in changes.items():
        changed = record(settings(override), catalog)
        assert changed[key] != first.get(key), override
    one_head = load_catalog(str(tmp_path), "train", learn_from=["scenes"])
    assert record(settings(), one_head)["learn_from"] == ["scenes"]


def test_plain_settings_hold_words_and_numbers_only() -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
            [check(item) for item in value.values()]
        elif isinstance(value, list):
            [check(item) for item in value]
        else:
            assert value is None or type(value) in (str, int, float, bool)

    check(plain(settings("run=here")))
