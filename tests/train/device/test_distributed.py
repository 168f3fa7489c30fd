"""A rank that waits on, as one does whose GPU waits for an exchange, ends soon after the death of another."""

from __future__ import annotations

import socket

import pytest

from tests.forked import Forked

PROGRAM = """
import os, signal, time
from train.device import distributed
distributed.GRACE = 0.1
with distributed.ranks_of("cpu") as ranks:
    ranks.wait()
    if ranks.rank == ranks.world - 1 and {dies}:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep({seconds})
    {then}
"""


def ended(world: int, **what: object) -> list[tuple[int | None, str]]:
    """Exit code and last words of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    program = PROGRAM.format(**what)
    ranks = [Forked("-c", program, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(world)]
    said = [rank.communicate(timeout=300)[1].strip() for rank in ranks]
    return [(rank.returncode, text.splitlines()[-1] if text else "") for rank, text in zip(ranks, said, strict=True)]


def test_all_that_wait_for_a_dead_rank_end_in_one_line() -> None:
    first, second, dead = ended(3, dies=True, seconds=600, then="")
    assert dead == (-9, "")
    for rank, (code, line) in enumerate((first, second)):
        assert code == 1 and line.startswith(f"error: rank {rank} has lost another of the 3 ranks")


@pytest.mark.parametrize(("then", "code"), [("", 0), ("raise SystemExit(75)", 75)])
def test_ranks_that_end_at_different_times_end_well(then: str, code: int) -> None:
    assert ended(2, dies=False, seconds="1 - ranks.rank", then=then) == [(code, ""), (code, "")]
