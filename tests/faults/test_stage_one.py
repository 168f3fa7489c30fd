"""Stage one under faults, as real processes: what is lost, what is printed, and that the same command goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults.commands import (
    Process,
    children,
    files,
    finish,
    labelling,
    largest_file,
    living_in_group,
    one_line,
    shared_mappings,
    start,
    wait_until,
)

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the processes to kill"),
]
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def undisturbed(videos: Path, network_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The tars of a run that nothing happens to."""
    shards = tmp_path_factory.mktemp("undisturbed")
    finish(start("pipeline", *labelling(videos, shards, network_folder)))
    return files(shards, "*.tar")


@pytest.fixture
def begin(videos: Path, network_folder: Path, tmp_path: Path) -> Start:
    def begin(before: Callable[[], object] | None = None, **settings: object) -> Process:
        return start("pipeline", *labelling(videos, tmp_path / "shards", network_folder, **settings), before=before)

    return begin


def scraps(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".partial", ".members", ".rgb")]


def a_shard_is_done(folder: Path) -> Callable[[], bool]:
    return lambda: any(folder.glob("*-[0-9]*.json"))


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 75, "error: stopped by SIGTERM: the same command goes on from what is finished"),
        (signal.SIGINT, 130, "error: interrupted: the same command goes on from what is finished"),
    ],
)
@pytest.mark.parametrize("to_all", [False, True], ids=["driver", "whole group"])
def test_a_signal_drops_the_shard_in_hand_and_the_same_command_goes_on(
    begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes], number: int, code: int, line: str, to_all: bool
) -> None:
    """A preempted machine's scheduler tells the driver alone, or all its processes."""
    process = begin(os.setsid, decoders=1)
    wait_until(a_shard_is_done(tmp_path / "shards"), process)
    if to_all:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert one_line(finish(process, code)) == line
    before = files(tmp_path / "shards", "*.tar")
    assert before.items() <= undisturbed.items() and not scraps(tmp_path / "shards")
    wait_until(lambda: not living_in_group(process.pid))
    finish(begin())
    assert files(tmp_path / "shards", "*.tar") == undisturbed


def test_a_killed_teacher_stops_the_run_in_one_line_and_the_same_command_goes_on(
    begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes]
) -> None:
    process = begin(decoders=1)
    wait_until(a_shard_is_done(tmp_path / "shards"), process)
    (teacher,) = children(process, "teacher_worker")
    os.kill(teacher, signal.SIGKILL)
    assert "a teacher process ended with exit code -9" in one_line(finish(process, 1))
    assert not scraps(tmp_path / "shards")
    finish(begin())
    assert files(tmp_path / "shards", "*.tar") == undisturbed


def test_a_killed_decoder_costs_nothing(begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes]) -> None:
    shards = tmp_path / "shards"
    process = begin(decoders=1)
    wait_until(a_shard_is_done(shards), process)
    for decoder in children(process, "decode_worker"):
        os.kill(decoder, signal.SIGKILL)
    finish(process)
    assert files(shards, "*.tar") == undisturbed and (shards / "rejects.jsonl").read_text() == ""


def test_a_killed_shard_process_stops_the_run_in_one_line_and_the_same_command_goes_on(
    begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes]
) -> None:
    process = begin(decoders=1)
    wait_until(a_shard_is_done(tmp_path / "shards"), process)
    (writer,) = children(process, "shard_worker")
    os.kill(writer, signal.SIGKILL)
    assert "a process that writes shards ended with exit code -9" in one_line(finish(process, 1))
    finish(begin())
    assert files(tmp_path / "shards", "*.tar") == undisturbed and not scraps(tmp_path / "shards")


def test_a_full_disk_while_a_shard_is_written_is_one_line(
    begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes]
) -> None:
    """The largest spooled sound is 310 kB, the smallest tar twice that."""
    line = one_line(finish(begin(largest_file(400_000)), 1))
    assert "train-00000" in line and "File too large. Finished shards stay; make room" in line
    shards = tmp_path / "shards"
    assert not files(shards, "*.tar") and not scraps(shards)
    finish(begin())
    assert files(shards, "*.tar") == undisturbed


def test_kill_9_of_the_whole_group_leaves_no_memory_and_the_next_run_clears_the_spool(
    begin: Start, tmp_path: Path, undisturbed: Mapping[str, bytes]
) -> None:
    shards, place = tmp_path / "shards", tmp_path / "spool"
    process = begin(os.setsid, decoders=1, spool=place)
    wait_until(a_shard_is_done(shards), process)
    names = {name for _, _, name in shared_mappings(process.pid)}
    assert list(place.glob("*/*.members"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not living_in_group(process.pid))
    assert not [name for name in names if name.startswith("/dev/shm") and Path(name).exists()]
    finish(begin(spool=place))
    assert files(shards, "*.tar") == undisturbed
    assert list(place.iterdir()) == []
