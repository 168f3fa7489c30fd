from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

import pytest

from shards.format.shard import DamagedShard
from shards.loader.tars.store import OpenTar, Tar, TarPool


def tar_of(path: Path, data: bytes) -> Tar:
    path.write_bytes(data)
    return Tar(str(path), len(data), hashlib.sha256(data).hexdigest())


def test_a_tar_is_opened_once_and_stays_readable_when_let_go(tmp_path: Path) -> None:
    one, two = (tar_of(tmp_path / f"{name}.tar", name.encode() * 10) for name in ("one", "two"))
    pool = TarPool()
    opened = pool.get(one).result()
    assert pool.get(one).result() is opened
    pool.prefetch([two])
    (tmp_path / "one.tar").unlink()
    assert os.pread(opened.descriptor, 3, 27) == b"one"
    pool.close()
    assert os.pread(opened.descriptor, 3, 27) == b"one"  # whoever still reads is not cut off


def test_a_descriptor_closes_with_its_last_reference(tmp_path: Path) -> None:
    opened = OpenTar(Path(tar_of(tmp_path / "one.tar", b"1").location))
    descriptor = opened.descriptor
    del opened
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_tar_that_is_gone_or_has_another_length_is_named(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "train-000003.tar", b"abc")
    (tmp_path / "train-000003.tar").write_bytes(b"ab")
    with pytest.raises(DamagedShard, match=r"train-000003\.tar has 2 bytes, its side file says 3"):
        TarPool().get(tar).result()
    (tmp_path / "train-000003.tar").unlink()
    with pytest.raises(DamagedShard, match=r"train-000003\.tar cannot be opened: No such file"):
        TarPool().get(tar).result()


def test_verify_compares_the_hash_on_the_first_touch(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "one.tar", b"abc")
    assert TarPool(verify=True).get(tar).result().bytes == 3
    (tmp_path / "one.tar").write_bytes(b"abd")
    assert TarPool().get(tar).result().bytes == 3
    with pytest.raises(
        DamagedShard, match=f"sha256 {hashlib.sha256(b'abd').hexdigest()}, its side file says {tar.sha256}"
    ):
        TarPool(verify=True).get(tar).result()


def test_what_is_wanted_is_opened_ahead_in_order_and_the_rest_let_go(tmp_path: Path) -> None:
    tars = [tar_of(tmp_path / f"{index}.tar", b"x" * index) for index in range(5)]
    remote = [Tar(f"far://{tar.location}", tar.bytes, tar.sha256) for tar in tars]
    asked: list[str] = []

    def fetch(tar: Tar) -> OpenTar:
        asked.append(tar.shard)
        return OpenTar(Path(tar.location.removeprefix("far://")))

    pool = TarPool(open_remote=fetch, threads=1)
    pool.prefetch(remote[:3])
    assert pool.get(remote[2]).result().bytes == 2
    assert asked == ["0", "1", "2"]
    pool.prefetch(remote[2:])
    pool.get(remote[4]).result()
    assert asked == ["0", "1", "2", "3", "4"]
    pool.get(remote[0]).result()
    assert asked[5:] == ["0"]
    pool.close()
