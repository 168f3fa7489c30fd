"""What `make status` says, beside what is known of a folder, and of ranks of which one is killed; it only reads."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import fsspec
import pytest

from pipeline.output.ledger import BEAT_SECONDS, RUNS
from pipeline.output.progress import Progress
from pipeline.output.status import StatusSettings, status_of
from pipeline.output.status import run as show
from pipeline.run import run
from pipeline.videos.plan import Size
from shards.errors import UserError
from tests.faults.commands import wait_until
from tests.forked import Forked
from tests.pipeline.conftest import UNPRINTABLE


def listed(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture
def reading_only(monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("a lock is asked for"))


def test_without_ledgers_the_side_files_tell_and_nothing_is_written(full, reading_only):
    """The fixture says what it made: 8 inputs, and one of two rejects recovered by a retry."""
    before = listed(full.folder)
    status = status_of(str(full.folder))
    assert listed(full.folder) == before
    assert (status.planned_shards, status.finished_shards, status.clips) == (4, 3, 6)
    assert (status.inputs, status.accepted, status.rejected, status.duplicates, status.left) == (8, 4, 1, 2, 1)
    assert status.reasons == {"no_sound": 1} and status.labels == {"second": 1} and status.ranks == []
    assert status.hours * 3600 == sum(len(example.waveform) for example in full.examples.values()) / 8_000
    assert "8 inputs = 4 accepted + 1 rejected + 2 duplicates + 1 left; 6 clips" in str(status)
    assert "nobody is at 1 video:" in str(status)


def test_behind_a_url_it_is_the_same(full):
    memory = fsspec.filesystem("memory")
    memory.put(f"{full.folder}/", "/status/", recursive=True)
    found, here = status_of("memory://status"), status_of(str(full.folder))
    memory.rm("/status", recursive=True)
    found.location = here.location
    assert found == here
    with pytest.raises(UserError, match="memory://status holds no shards"):
        status_of("memory://status")


def test_a_retry_that_waits_and_a_list_with_columns_called_like_ours(full):
    videos = [{"key": "x", "path": 'a "bytes": 7.mp4', "bytes": 5, "given": {"bytes": "9", "key": "b"}}]
    plan = full.folder / "plan.jsonl"
    plan.write_bytes(plan.read_bytes().rpartition(b"\n")[0] + b"\n")
    full.row({"shard": "train-000003", "videos": videos})
    full.plan("train-000004", [UNPRINTABLE], retry=True)
    status = status_of(str(full.folder))
    assert (status.planned_shards, status.inputs, status.left, status.retried) == (6, 9, 2, 1)


@pytest.mark.parametrize("damage", ["no plan", "no manifest", "side file", "torn ledger", "foreign ledger", "no tar"])
def test_a_folder_half_written_is_told_as_far_as_it_goes(full, damage):
    (full.folder / RUNS).mkdir()
    if damage == "side file":
        (full.folder / "train-000000.json").write_text('{"keys": [')
    elif damage.endswith("ledger"):
        text = '{"at": 1, "job": "teach' if damage == "torn ledger" else '[1]\n{"at": 5}\nx\n'
        (full.folder / RUNS / "a.jsonl").write_text(text)
    else:
        (full.folder / {"no plan": "plan.jsonl", "no tar": "train-000000.tar"}.get(damage, "manifest.json")).unlink()
    status = status_of(str(full.folder))
    assert status.ranks == [] and str(status)
    assert (status.hours is None) == (damage == "no manifest")
    assert status.unreadable == (["train-000000.json"] if damage == "side file" else [])
    assert status.finished_shards == {"no plan": 0, "side file": 2, "no tar": 2}.get(damage, 3)


def test_what_is_no_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no shards and no plan of any: give the shards="):
        status_of(str(tmp_path / "none"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    """Five inputs, of which one is broken and one repeats another: four shards."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        render_video(folder / f"{number}.mp4", 2.0, seed=number)
    (folder / "broken.mp4").write_text("<html>")
    (folder / "repeat of 2.mp4").write_bytes((folder / "2.mp4").read_bytes())
    return folder


def test_ranks_at_work_a_killed_one_and_the_end(settings, words_of, videos, tmp_path, monkeypatch):
    shards, seen, done = tmp_path / "shards", [], Progress.shard_done
    killed = Forked("pipeline", *words_of(videos=videos, shards=shards, rank=1, world=2))
    wait_until(lambda: any((shards / RUNS).glob("*.jsonl")), killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()

    def shard_done(progress, side):
        done(progress, side)
        seen.append(status_of(str(shards)))

    monkeypatch.setattr(Progress, "shard_done", shard_done)
    values = {"decoders": 1, "shard_size": Size(videos=1)}
    run(settings(shards, rank=0, world=2, **values))
    first = seen[0]
    mine, other = first.ranks
    assert (mine.state, mine.process, mine.host) == ("at work", os.getpid(), socket.gethostname())
    assert mine.shards == 1 <= mine.done <= mine.videos == 2 and mine.videos_per_second > 0
    assert (other.state, other.process) == ("killed", killed.pid)
    waiting = 2 - other.shards
    # The second shard may be there already by the time that the first is told of.
    assert first.left == 4 - first.finished_shards and first.finished_shards - other.shards in (1, 2)
    assert f"nobody is at {waiting} videos" in str(first) or not waiting
    run(settings(shards, **values))
    last = status_of(str(shards))
    assert (last.inputs, last.accepted, last.rejected, last.duplicates, last.left) == (5, 3, 1, 1, 0)
    assert last.reasons == {"not_media": 1} and (last.planned_shards, last.finished_shards) == (4, 4)
    assert [rank.state for rank in last.ranks].count("killed") == 1
    assert sum(rank.shards for rank in last.ranks) == 4
    shutil.rmtree(shards / RUNS)  # as of a folder that was made before there were any
    bare = status_of(str(shards))
    assert (bare.accepted, bare.reasons, bare.clips, bare.hours) == (
        last.accepted,
        last.reasons,
        last.clips,
        last.hours,
    )


@pytest.fixture
def ledger(full):
    """ledger(seconds since its last sign, ...): of a run on another machine that has two videos to read."""
    (full.folder / RUNS).mkdir()

    def write(ago, *, rank=0, began=1_000.0, host="elsewhere", **end):
        who = {"job": "teacher-shards", "rank": rank, "world": 2, "host": host, "process": 1, "videos": 2}
        rows = [{"at": time.time() - ago - began} | who, {"at": time.time() - ago, "done": 1} | end]
        name = f"{rank}.{host}.jsonl"
        (full.folder / RUNS / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def test_a_run_elsewhere_is_known_by_its_last_sign(full, ledger):
    ledger(BEAT_SECONDS)
    ledger(3_600, rank=1)
    working, silent = status_of(str(full.folder)).ranks
    assert (working.state, silent.state) == ("at work", "silent")
    assert working.videos_per_second == pytest.approx(1 / 1_000) and working.seconds_left == pytest.approx(1_000)
    assert silent.seconds_left is None and silent.silent_seconds == pytest.approx(3_600, abs=60)
    ledger(0, rank=1, host="another")
    ledger(0, end="stopped")
    assert {(rank.host, rank.state) for rank in status_of(str(full.folder)).ranks} == {
        ("elsewhere", "stopped"),
        ("elsewhere", "replaced"),
        ("another", "at work"),
    }


def test_for_another_program_it_is_one_line_of_json_and_torch_is_not_loaded(full, capsys):
    show(StatusSettings(str(full.folder), json=True))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["accepted"] == 4
    loaded = "import sys, pipeline.output.status; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", loaded], check=True)
