"""Runs in one folder, as real processes: who is let in beside whom, and what a killed one leaves."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.output.folder_lock import FolderLease, Rank
from shards.errors import ContractError, UserError

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import json, sys
from pathlib import Path
from pipeline.output.folder_lock import Rank, FolderLease
with FolderLease(Path(sys.argv[1]), Rank(**json.loads(sys.argv[2]))) as lease:
    with lease.turn():
        lease.agree(json.loads(sys.argv[3]))
    print("at work", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from pipeline.output.folder_lock import Rank, FolderLease
counter = Path(sys.argv[1]) / "counter"
with FolderLease(Path(sys.argv[1]), Rank(int(sys.argv[2]), 4)) as lease:
    for _ in range(50):
        with lease.turn():
            counter.write_text(str(int(counter.read_text()) + 1))
"""
TERMS = {"videos": "/my/videos", "inputs": 10}


@pytest.fixture
def at_work(tmp_path):
    """Start a process that holds a rank's lease on some terms; it is at work when this returns."""
    processes = []

    def start(terms=TERMS, **rank):
        command = [sys.executable, "-c", HOLD, str(tmp_path), json.dumps(rank), json.dumps(terms)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b"at work\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({}, {}),
        ({"rank": 3, "world": 16}, {"rank": 3, "world": 16}),
        ({"rank": 3, "world": 16}, {"rank": 0, "world": 15}),
        ({"rank": 3, "world": 16}, {}),
        ({"job": "relabel"}, {"rank": 1, "world": 2}),
        ({"rank": 1, "world": 2}, {"job": "relabel"}),
    ],
)
def test_only_other_ranks_of_the_same_world_and_job_are_let_in(at_work, tmp_path, there, here):
    process = at_work(**there)
    with pytest.raises(UserError, match="another run is writing") as refused, FolderLease(tmp_path, Rank(**here)):
        pass
    for side in (Rank(**there), Rank(**here)):
        assert f"{side.job} rank={side.rank} world={side.world}" in str(refused.value)
    assert f"process {process.pid}" in str(refused.value) and "\n" not in str(refused.value)


def test_another_plan_is_refused_with_both_sides_and_the_same_is_taken(at_work, tmp_path):
    at_work(rank=0, world=2)
    with FolderLease(tmp_path, Rank(1, 2)) as lease, lease.turn():
        assert [(other.rank, other.terms) for other in lease.others()] == [(0, TERMS)]
        with pytest.raises(ContractError, match=r"inputs: .*rank=0 world=2.* has 10, this run 11.*share one plan"):
            lease.agree(TERMS | {"inputs": 11})
        assert lease.agree(TERMS)


def test_a_rank_alone_plans_and_one_that_has_not_planned_binds_nobody(at_work, tmp_path):
    at_work(terms={}, rank=0, world=3)
    with FolderLease(tmp_path, Rank(1, 3)) as lease, lease.turn():
        assert not lease.agree(TERMS)


def test_a_killed_rank_is_gone_at_once_and_its_lease_is_free(at_work, tmp_path):
    process = at_work(rank=0, world=2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with FolderLease(tmp_path, Rank()) as lease, lease.turn():
        assert lease.others() == []
        assert not lease.agree({"videos": "/others"})
    at_work(rank=0, world=2)


def test_one_run_at_a_time_has_its_turn(tmp_path):
    (tmp_path / "counter").write_text("0")
    ranks = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path), str(rank)], cwd=ROOT) for rank in range(4)]
    assert [process.wait(timeout=100) for process in ranks] == [0] * 4
    assert (tmp_path / "counter").read_text() == "200"


def test_the_parts_of_all_ranks_are_the_whole():
    items = list(range(10))
    parts = [Rank(rank, 3).part(items) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == items
    assert parts[1] == [1, 4, 7] and Rank().part(items) == items


@pytest.mark.parametrize(("rank", "world"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_counts_from_nought_to_its_world(rank, world):
    with pytest.raises(ValueError, match=f"rank={rank} world={world}"):
        Rank(rank, world)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [(errno.ENOLCK, UserError, "has no locks"), (errno.EIO, OSError, "no such thing here")],
)
def test_a_file_system_without_locks_is_refused_in_one_line(tmp_path, monkeypatch, number, error, message):
    def flock(stream, how):
        raise OSError(number, "no such thing here")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(error, match=message), FolderLease(tmp_path, Rank()):
        pass
