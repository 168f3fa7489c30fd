"""A file is replaced whole or not at all; a lock keeps others out; an error that passes is tried again."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.files import (
    append_line,
    locked,
    own_folder,
    patiently,
    replacing,
    sha256_of,
    writable_file,
    writable_folder,
    write_whole,
)
from tests.faults.commands import obey_permissions


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


def test_a_place_for_results_is_there_or_refused_before_the_work(tmp_path: Path) -> None:
    assert writable_file(tmp_path / "new" / "folder" / "a.csv").parent.is_dir()
    assert writable_file(tmp_path / "new" / "folder" / "a.csv", [tmp_path / "b"]).parent.is_dir()
    (tmp_path / "sound.wav").write_bytes(b"sound")
    (tmp_path / "link.wav").hardlink_to(tmp_path / "sound.wav")
    assert writable_file(tmp_path / "sound.wav", [tmp_path / "gone.wav"]) == tmp_path / "sound.wav"
    with pytest.raises(UserError, match=r"link\.wav would be replaced, and is to be read"):
        writable_file(tmp_path / "link.wav", [tmp_path / "gone.wav", tmp_path / "sound.wav"])
    with pytest.raises(IsADirectoryError, match="new"):
        writable_file(tmp_path / "new")
    for path in (tmp_path / "sound.wav" / "a", tmp_path / "sound.wav" / "b" / "a"):
        with pytest.raises(OSError, match="sound"):
            writable_file(path)
    with pytest.raises(FileExistsError, match="sound"):
        writable_folder(tmp_path / "sound.wav")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".wav"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o555)
    program = "import sys; from pathlib import Path; from shards.files import writable_file\n"
    program += "try: writable_file(Path(sys.argv[1]))\nexcept PermissionError as error: print(error.filename)"
    command = [sys.executable, "-c", program, tmp_path / "a" / "a.csv"]
    done = subprocess.run(command, preexec_fn=obey_permissions, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'a'}\n"


@pytest.mark.parametrize("name", ["pipe", "stream"])
def test_no_file_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path, name: str) -> None:
    """As root, `out=/dev/null` would otherwise make a file of it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stream").symlink_to("/proc/self/fd/1")
    for write in (lambda path: write_whole(path, b"1"), writable_file):
        with pytest.raises(UserError, match="is a device or a pipe"):
            write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "stream").is_symlink()


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
