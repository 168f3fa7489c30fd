"""Stage one as ranks of one world, in one folder and behind a URL: real processes, one of them killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.plan import Size
from pipeline.run import run
from pipeline.settings import PipelineSettings
from shards.check import check
from shards.clip import ClipSpec

ROOT = Path(__file__).resolve().parents[2]
CLIP = ClipSpec(sample_rate=22_050, seconds=2.0, windows=4)
SMALL = {"clip": CLIP, "device": "cpu", "decoders": 1, "teacher_processes": 1, "batch_clips": 2}
SMALL |= {"validation_share": 0.3, "shard_size": Size(videos=1)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    """Six inputs, of which one is broken and one repeats another: five shards."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        render_video(folder / f"{number}.mp4", 1.5 + 0.5 * number, seed=number)
    (folder / "broken.mp4").write_text("<html>")
    (folder / "repeat of 2.mp4").write_bytes((folder / "2.mp4").read_bytes())
    return folder


@pytest.fixture(scope="module")
def settings(videos, small_teachers):
    return lambda shards, **fields: PipelineSettings(
        **{"videos": str(videos), "shards": str(shards), "teachers": small_teachers} | SMALL | fields
    )


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    """What one run makes of the videos."""
    folder = tmp_path_factory.mktemp("alone")
    run(settings(folder))
    return folder


def tars(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


@pytest.fixture
def start(videos, words_of):
    """Start a run as a process."""
    processes = []

    def begin(shards, **fields):
        words = words_of(videos=videos, shards=shards, **{"shard_size.videos": 1} | fields)
        command = [sys.executable, "-m", "pipeline", *words]
        processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)


def planned(folder, rank):
    lock = folder / ".ranks" / f"teacher-shards-{rank}-of-2"
    return lock.exists() and '"inputs"' in lock.read_text()


def end(process):
    _, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors.decode()


def test_two_ranks_at_once_and_a_kill_give_the_bytes_of_one_run(start, alone, tmp_path):
    first = start(tmp_path, rank=0, world=2)
    second = start(tmp_path, rank=1, world=2)
    wait_until(lambda: planned(tmp_path, 1), second)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    again = start(tmp_path, rank=1, world=2)
    end(first)
    end(again)
    assert tars(tmp_path) == tars(alone)
    assert (tmp_path / "rejects.jsonl").read_bytes() == (alone / "rejects.jsonl").read_bytes()
    assert check(tmp_path) == check(alone)
    assert (tmp_path / "report.html").is_file()
    logs = [(tmp_path / f"pipeline-{rank}-of-2.log").read_text() for rank in range(2)]
    assert any("6 inputs = 4 accepted + 1 rejected + 1 duplicates;" in log for log in logs)  # none is waiting
    assert not list(tmp_path.glob(".spool*")) and not list(tmp_path.glob("*.partial"))


def test_a_rank_does_its_part_and_says_what_waits_and_one_run_does_the_rest(settings, alone, tmp_path, caplog):
    run(settings(tmp_path, rank=1, world=2))
    order = [json.loads(line) for line in (alone / "plan.jsonl").read_text().splitlines()]
    part = [f"{row['shard']}.tar" for row in order if "shard" in row][1::2]
    assert tars(tmp_path).items() <= tars(alone).items() and list(tars(tmp_path)) == sorted(part)
    assert "3 waiting" in (tmp_path / "pipeline-1-of-2.log").read_text()
    (tmp_path / f"{order[0]['shard']}.tar.x.partial").touch()  # of a rank that was killed and is not run again
    (tmp_path / ".spool-teacher-shards-0-of-2").mkdir()
    run(settings(tmp_path, rank=1, world=2))
    assert list(tmp_path.glob("*.partial")) and list(tmp_path.glob(".spool*"))  # another rank's are let be
    run(settings(tmp_path))
    assert tars(tmp_path) == tars(alone)
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".spool*"))


def test_a_retry_is_planned_by_one_run_alone(settings, tmp_path):
    with pytest.raises(ValueError, match="retry_rejected=true adds to the plan, so it wants world=1"):
        settings(tmp_path, retry_rejected=True, world=2)
