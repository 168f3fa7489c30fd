"""A file is replaced whole or not at all; a lock keeps others out; an error that passes is tried again."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards.files import locked, patiently, replacing, sha256_of, write_whole


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
