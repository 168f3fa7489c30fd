from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from shards.errors import UserError
from shards.files import locked
from shards.format.shard import DamagedShard
from shards.loader.tars.cache import Cache
from shards.loader.tars.store import Tar

SIZE = 100_000


@pytest.fixture
def far() -> Iterator[list[Tar]]:
    """Six tars of 100,000 bytes in fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    tars = []
    for index in range(6):
        data = bytes([index]) * SIZE
        memory.pipe_file(f"/cache-test/train-{index:06d}.tar", data)
        tars.append(Tar(f"memory://cache-test/train-{index:06d}.tar", SIZE, hashlib.sha256(data).hexdigest()))
    yield tars
    memory.rm("/cache-test", recursive=True)


def held(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.tar")}


def bytes_in(folder: Path) -> int:
    total = 0
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # renamed or pushed out meanwhile
            total += (folder / name).stat().st_size
    return total


def test_a_tar_is_fetched_whole_once_and_found_again(tmp_path: Path, far: list[Tar]) -> None:
    opened = Cache(tmp_path, 3 * SIZE).open(far[2])
    assert os.pread(opened.descriptor, SIZE, 0) == b"\2" * SIZE
    fsspec.filesystem("memory").rm("/cache-test/train-000002.tar")
    assert Cache(tmp_path, 3 * SIZE).open(far[2]).bytes == SIZE  # by another process, say, or the next run
    fsspec.filesystem("memory").pipe_file("/cache-test/train-000002.tar", b"")


def test_the_least_recently_used_make_room(tmp_path: Path, far: list[Tar]) -> None:
    cache = Cache(tmp_path, 3 * SIZE + 50)
    for index in (0, 1, 2, 0, 3):
        cache.open(far[index])
        time.sleep(0.01)  # file systems keep times in coarse ticks
    assert held(tmp_path) == {far[index].sha256 for index in (0, 2, 3)}
    assert os.pread(cache.open(far[1]).descriptor, 3, 0) == b"\1" * 3
    assert len(held(tmp_path)) == 3


def test_the_bound_holds_while_many_fetch(tmp_path: Path, far: list[Tar]) -> None:
    cache, largest = Cache(tmp_path, 3 * SIZE), 0
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(cache.open, tar) for tar in far * 4]
        while not all(job.done() for job in jobs):
            with locked(tmp_path / ".lock"):  # under which files get their lengths and their names
                largest = max(largest, bytes_in(tmp_path))
        assert all(job.result().bytes == SIZE for job in jobs)
    assert largest <= 3 * SIZE


def test_threads_that_want_the_same_tar_fetch_it_once(
    tmp_path: Path, far: list[Tar], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[object] = []
    original = fsspec.open
    monkeypatch.setattr(fsspec, "open", lambda *args: fetched.append(args) or original(*args))
    for turn in range(50):  # the threads do not meet in the same way each time
        folder = tmp_path / str(turn)
        fetched.clear()
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(Cache(folder, 3 * SIZE).open, [far[0]] * 16))
        assert len(fetched) == 1 and {tar.bytes for tar in opened} == {SIZE}
        assert {path.name for path in folder.iterdir()} == {".lock", f"{far[0].sha256}.tar"}


def test_damaged_or_missing_shards_are_named_and_not_kept(tmp_path: Path, far: list[Tar]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/cache-test/train-000001.tar", b"\1" * (SIZE - 1) + b"\0")
    memory.pipe_file("/cache-test/train-000002.tar", b"\2" * (SIZE // 2))
    memory.pipe_file("/cache-test/train-000003.tar", b"\3" * (SIZE * 300))
    memory.rm("/cache-test/train-000004.tar")
    cache = Cache(tmp_path, 5 * SIZE)
    for index, message in [(1, "sha256"), (2, "came as 50000 bytes"), (3, "came as"), (4, "is not there any more")]:
        with pytest.raises(DamagedShard, match=rf"train-00000{index}\.tar .*{message}"):
            cache.open(far[index])
    assert not held(tmp_path)


def test_a_failing_network_is_tried_three_times(
    tmp_path: Path, far: list[Tar], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[object] = []

    def fail(*args: str) -> object:
        attempts.append(args)
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(fsspec, "open", fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(ConnectionError, match="reset by peer"):
        Cache(tmp_path, SIZE).open(far[0])
    assert len(attempts) == 3


def _die_while_fetching(folder: Path, source: Path) -> None:
    tar = Tar(f"file://{source}", SIZE, hashlib.sha256(source.read_bytes()).hexdigest())
    fsspec.open = lambda *args: os._exit(9)  # the partial file is locked and reserved by now
    Cache(folder, 3 * SIZE).open(tar)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, far: list[Tar]) -> None:
    (tmp_path / "source.tar").write_bytes(b"z" * SIZE)
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_fetching, args=(tmp_path / "cache", tmp_path / "source.tar")
    )
    process.start()
    process.join()
    assert process.exitcode == 9 and [path.stat().st_size for path in (tmp_path / "cache").glob("*.partial")] == [SIZE]
    Cache(tmp_path / "cache", 3 * SIZE).open(far[0])
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_a_cache_too_small_for_two_blocks_is_refused_before_training(tmp_path: Path, far: list[Tar]) -> None:
    cache = Cache(tmp_path, 3 * SIZE)
    cache.require_room(far, at_once=3)
    with pytest.raises(UserError, match=r"may hold 0.0003 GB, but the shards of two blocks take up to 0.0004 GB"):
        cache.require_room(far, at_once=4)
