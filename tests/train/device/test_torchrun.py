"""A rank that waits on, as one does whose GPU waits for an exchange, ends soon after the death of another."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.forked import Forked

PROGRAM = """
import os, signal, time
from train.device import torchrun
torchrun.GRACE = 0.1
with torchrun.ranks_of("cpu") as ranks:
    ranks.wait()
    if ranks.rank == ranks.world - 1 and {dies}:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep({seconds})
    {then}
"""


def ended(world: int, host: str = "127.0.0.1", **what: object) -> list[tuple[int | None, str]]:
    """Exit code and last words of each rank."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        place = {"MASTER_ADDR": host, "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    program = PROGRAM.format(**what)
    ranks = [Forked("-c", program, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(world)]
    said = [rank.communicate(timeout=300)[1].strip() for rank in ranks]
    return [(rank.returncode, text.splitlines()[-1] if text else "") for rank, text in zip(ranks, said, strict=True)]


def test_all_that_wait_for_a_dead_rank_end_in_one_line() -> None:
    first, second, dead = ended(3, dies=True, seconds=600, then="")
    assert dead == (-9, "")
    for rank, (code, line) in enumerate((first, second)):
        assert code == 1 and line.startswith(f"error: rank {rank} has lost another of the 3 ranks")


def test_a_checkpoint_that_is_being_written_is_written_to_its_end(tmp_path: Path) -> None:
    """Though that takes longer than the death of another is waited for."""
    writes = f"""
def write():
    time.sleep(3)
    pathlib.Path({str(tmp_path / "whole")!r}).touch()
saver = Saver(ranks.writing)
saver.submit(write)
time.sleep(600)
"""
    then = f"import pathlib; from train.checkpoint.saver import Saver; ranks.is_first and exec({writes!r})"
    (code, line), dead = ended(2, dies=True, seconds=0, then=then)
    assert dead == (-9, "") and (tmp_path / "whole").exists()
    assert code == 1 and line.startswith("error: rank 0 has lost another of the 2 ranks")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("then", "code", "host"), [("", 0, "127.0.0.1"), ("raise SystemExit(75)", 75, "127.0.0.1"), ("", 0, "::1")]
)
def test_ranks_that_end_at_different_times_end_well(then: str, code: int, host: str) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    try:
        found = ended(2, host, dies=False, seconds="1 - ranks.rank", then=then)
    except OSError as error:
        pytest.skip(f"this machine has no address {host}: {error}")
    assert found == [(code, ""), (code, "")]
