"""Stage two under faults, as real processes: what is lost, which line is printed, and that the same command goes on."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from shards.loader.catalog import load_catalog
from tests.faults.commands import finish, obey_permissions, one_line, start, state, training, two_ranks, wait_until
from train.checkpoint.checkpoint import load

pytestmark = pytest.mark.faults
NO_COMPILER = "compile=true, but the compiler does not work"
STEPS = 400  # more than a run gets to before it is disturbed, and few seconds' work


def flip_a_bit(shards: Path, split: str, clip: int) -> str:
    """In the sound of a clip, whose key is returned."""
    catalog = load_catalog(str(shards), split)
    tar = Path(catalog.sounds[catalog.shard[clip]].location)
    data = bytearray(tar.read_bytes())
    data[int(catalog.sound_places[clip].sum()) - 8] ^= 0x40
    tar.write_bytes(data)
    return str(catalog.keys[clip])


def test_a_killed_rank_ends_the_other_in_one_line_and_both_resume_bit_by_bit(shards: Path, tmp_path: Path) -> None:
    """The one that listens for the others, and the one that does not."""
    for rank in two_ranks(training(shards, tmp_path / "undisturbed", steps=STEPS)):
        finish(rank)
    for victim in (0, 1):
        run = tmp_path / f"run{victim}"
        ranks = two_ranks(training(shards, run, steps=10**6))
        wait_until((run / "last.pt").exists, *ranks)
        ranks[victim].kill()
        assert "has lost another of the 2 ranks" in one_line(finish(ranks[1 - victim], code=1))
        ranks[victim].communicate()
        position = load(run / "last.pt").position
        assert position is not None and position["step"] < STEPS
        for rank in two_ranks(training(shards, run, steps=STEPS)):
            finish(rank)
        assert state(run) == state(tmp_path / "undisturbed")


def test_kill_9_of_a_compiled_run_and_resume_is_the_undisturbed_run_bit_by_bit(shards: Path, tmp_path: Path) -> None:
    # A cache of its own: torch also takes graphs out of it that were compiled under another ATEN_CPU_CAPABILITY.
    place = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    student = {"student.layers": "[{name:conv1,kernel:64,stride:32,padding:16,filters:4}]"}  # quick to compile
    student |= {"student.output.kernel": "17", "student.output.stride": "15", "compile": "true"}
    undisturbed = start("train", *training(shards, tmp_path / "undisturbed", steps=STEPS, **student), **place)
    errors = undisturbed.communicate(timeout=400)[1]
    if NO_COMPILER in errors:
        pytest.skip(errors[errors.index(NO_COMPILER) :].splitlines()[0])
    assert undisturbed.returncode == 0, errors
    run = tmp_path / "run"
    killed = start("train", *training(shards, run, steps=10**6, **student), **place)
    wait_until((run / "last.pt").exists, killed)
    killed.kill()
    killed.communicate()
    position = load(run / "last.pt").position
    assert position is not None and position["step"] < STEPS
    finish(start("train", *training(shards, run, steps=STEPS, **student), **place))
    assert state(run) == state(tmp_path / "undisturbed")


def test_a_full_disk_while_a_checkpoint_is_written_is_one_line_and_costs_nothing(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("train", *training(shards, run, steps=10**6, log_every=10**6, validate_every=10**6))
    wait_until((run / "last.pt").exists, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4_000, 4_000))
    line = one_line(finish(process, 1))
    assert str(run / "last.pt") in line and "File too large. What was there before is whole; make room" in line
    assert not list(run.glob("*.partial"))
    steps = int(str(load(run / "last.pt").position and load(run / "last.pt").position["step"])) + 9
    for folder in (run, tmp_path / "undisturbed"):
        finish(start("train", *training(shards, folder, steps=steps, log_every=10**6, validate_every=10**6)))
    assert state(run) == state(tmp_path / "undisturbed")


def test_a_damaged_shard_stops_two_ranks_in_one_line_each(shards: Path, tmp_path: Path) -> None:
    key = flip_a_bit(shards, "train", 3)
    lines = [one_line(finish(rank, 1)) for rank in two_ranks(training(shards, tmp_path / "run", steps=10**6))]
    assert any(f"train-000000.tar: {key}.wav: its checksum is" in line for line in lines)
    assert any("streaming.on_bad_shard=skip" in line for line in lines)


def test_two_ranks_skip_what_is_damaged_with_as_many_steps_and_resume_bit_by_bit(shards: Path, tmp_path: Path) -> None:
    keys = {flip_a_bit(shards, "train", 3), flip_a_bit(shards, "validation", 2)}
    with open(shards / "train-000001.tar", "r+b") as stream:
        stream.truncate(10_000)
    words = {"streaming.on_bad_shard": "skip"}
    for run, parts in (("whole", [40]), ("parts", [17, 40])):
        for steps in parts:
            logged = [finish(rank) for rank in two_ranks(training(shards, tmp_path / run, steps=steps, **words))]
            assert "train-000001" in "".join(logged)
    assert state(tmp_path / "whole") == state(tmp_path / "parts")
    lists = sorted((tmp_path / "whole").glob("skipped-*.jsonl"))
    rows = [json.loads(line) for path in lists for line in path.read_text().splitlines()]
    skipped = {row["key"] for row in rows}
    assert skipped == keys | {f"train-000001%2Emp4-{clip:05d}" for clip in range(15)}
    last = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["skipped"] == len(rows) and f"{len(rows)} clips skipped" in "".join(logged)
    assert json.loads((tmp_path / "whole" / "validation.json").read_text())["clips"] == 6


def test_a_folder_that_may_not_be_written_is_one_line(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o555)
    line = one_line(finish(start("train", *training(shards, tmp_path / "run"), before=obey_permissions), 1))
    assert "Permission denied" in line and str(tmp_path / "run") in line
    assert not any((tmp_path / "run").iterdir())
