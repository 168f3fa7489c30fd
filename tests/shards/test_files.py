"""A file is replaced whole or not at all; a lock keeps others out; an error that passes is tried again."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.files import append_line, locked, own_folder, patiently, replacing, sha256_of, write_whole


def test_a_file_is_replaced_whole_or_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"before")
    with pytest.raises(KeyError), replacing(path, unique=True) as partial:
        partial.write_bytes(b"aft")
        assert path.read_bytes() == b"before" and partial.name.endswith(".partial")
        raise KeyError
    assert [path.read_bytes()] == [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]
    write_whole(path, b"after")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"after"]


def test_a_line_that_a_full_disk_does_not_take_is_said_with_its_file(tmp_path: Path) -> None:
    append_line(tmp_path / "lines", "one")
    append_line(tmp_path / "lines", "two")
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append_line(Path("/dev/full"), "three")


def test_a_full_disk_is_said_with_the_file_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of a descriptor: it names no file

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "a", b"1")
    assert caught.value.filename == str(tmp_path / "a") and not list(tmp_path.iterdir())


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as held:
        assert held is not None
        with locked(path, wait=False) as other:
            assert other is None
    with pytest.raises(FileNotFoundError), locked(path, wait=False) as held:
        assert held is not None
        raise FileNotFoundError  # by the caller: it passes
    with locked(path, wait=False) as held:
        assert held is not None


def test_who_waited_for_a_file_that_is_gone_locks_the_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def lock_what_is_there() -> bool:
        with locked(path) as held:
            assert held is not None
            return os.fstat(held.fileno()).st_ino == path.stat().st_ino

    with ThreadPoolExecutor(4) as pool:
        with locked(path):
            waiting = [pool.submit(lock_what_is_there) for _ in range(4)]
            path.rename(tmp_path / "elsewhere")
        assert all(done.result(timeout=20) for done in waiting)


def test_a_hash_is_that_of_all_blocks(tmp_path: Path) -> None:
    data, blocks = bytes(range(256)) * 10_000, []
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a", lambda: blocks.append(1)) == hashlib.sha256(data).hexdigest() and len(blocks) == 3
    assert sha256_of(io.BytesIO(b"")) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(("failures", "error"), [(2, None), (3, ConnectionError), (1, KeyError)])
def test_what_may_pass_is_tried_three_times(
    monkeypatch: pytest.MonkeyPatch, failures: int, error: type[Exception] | None
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    errors = iter([error or OSError] * failures)

    def action() -> str:
        for each in errors:
            raise each("reset")
        return "done"

    if error is None:
        assert patiently(action, (OSError,)) == "done"
    else:
        with pytest.raises(error):
            patiently(action, (OSError,))
    assert len(pauses) == min(failures, 2) - (error is KeyError)


def test_a_folder_of_ones_own_goes_and_what_a_killed_process_left_goes_before(tmp_path: Path) -> None:
    (tmp_path / "mine-of a killed one").mkdir()
    (tmp_path / "mine-of a killed one" / "lock").touch()
    (tmp_path / "other").mkdir()
    with own_folder(tmp_path, "mine") as first, own_folder(tmp_path, "mine") as second:
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "other"}
        (first / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_many_that_begin_at_once_take_no_folder_from_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def begin() -> bool:
        together.wait()
        for _ in range(20):
            with own_folder(tmp_path, "mine") as folder:
                (folder / "a").touch()
                if not (folder / "a").exists():
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        begun = [pool.submit(begin) for _ in range(8)]
        assert all(each.result() for each in begun)
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_room_or_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MB free, and this run wants .* MB at least: make room, or give spool=x"):
        own_folder(tmp_path, "mine", least_bytes=1e18, instead="spool=x").__enter__()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be written: .*\. Mend it, or give spool=x"):
        own_folder(tmp_path / "file", "mine", instead="spool=x").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
