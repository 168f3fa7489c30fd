"""Shards and checkpoints of a stranger: refused in one line, nothing executed, written or allocated."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import resource
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import save_file

from shards.errors import UserError
from shards.format.check import check
from shards.format.manifest import Manifest
from shards.format.members import DamagedExample, decode, decode_array
from train.checkpoint.checkpoint import load


@pytest.fixture
def small(tmp_path: Path, make_shards: Callable[..., Path]) -> Path:
    return make_shards(tmp_path / "small", {"train-000000": 2})


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "trick",
    [
        member("../../escaped.wav"),
        member("/tmp/escaped.wav"),
        member("folder/escaped.wav"),
        member("link.wav", tarfile.SYMTYPE, "/etc/passwd"),
        member("link.wav", tarfile.LNKTYPE, "../../escaped"),
        member("device.wav", tarfile.CHRTYPE),
        member("fifo.wav", tarfile.FIFOTYPE),
        member("folder.wav", tarfile.DIRTYPE),
        member("no extension"),
    ],
    ids=lambda info: f"{info.name} {info.type!r}",
)
def test_a_tar_with_path_tricks_is_refused_and_writes_nothing(small: Path, trick: tarfile.TarInfo) -> None:
    side, tar = small / "train-000000.json", small / "train-000000.tar"
    with tarfile.open(tar, "a") as archive:
        archive.addfile(trick)
    facts = {"tar_bytes": tar.stat().st_size, "tar_sha256": hashlib.sha256(tar.read_bytes()).hexdigest()}
    side.write_text(json.dumps(json.loads(side.read_bytes()) | facts))  # it vouches for what its tar is now
    before = {path: path.stat().st_mtime_ns for path in small.parent.rglob("*")}
    with pytest.raises(UserError, match=re.escape(f"unexpected member {trick.name!r}")):
        check(small)
    assert {path: path.stat().st_mtime_ns for path in small.parent.rglob("*")} == before


@pytest.mark.parametrize("name", ["manifest.json", "train-000000.json"])
def test_json_a_hundred_thousand_deep_is_no_traceback(small: Path, name: str) -> None:
    (small / name).write_text('{"format": ' + "[" * 100_000)
    with pytest.raises(UserError, match=name):
        check(small)
    with pytest.raises(DamagedExample, match="k"):
        decode("k", {"wav": b"", "json": b"[" * 100_000}, 1000)


def test_a_manifest_from_the_future_is_refused_with_both_versions(small: Path) -> None:
    facts = json.loads((small / "manifest.json").read_bytes())
    (small / "manifest.json").write_text(json.dumps(facts | {"format": 7, "unheard": "of"}))
    with pytest.raises(UserError, match=r"has format 7, this program reads 3: read it with the version that wrote"):
        Manifest.load(small)


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "data",
    [
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1099511627776, 1000)}", bytes(8)),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (-1, -8)}", bytes(16)),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", pickle.dumps([1])),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': " + "(" * 5000 + "}"),
        npy("-" * 9000 + "1"),
        npy("__import__('os').system('touch pwned')"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), 'x': " + "9" * 9000 + "}"),
        b"\x93NUMPY\x03\x00" + (2**31).to_bytes(4, "little"),
        b"\x93NUMPY",
    ],
    ids=["terabytes", "negative", "pickle", "parentheses", "signs", "code", "digits", "version 3", "short"],
)
def test_an_array_that_lies_or_runs_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"npy|magic string"):
        decode_array(data)


@contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """This process may have so many bytes more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def lying(audio: str) -> bytes:
    """A second of sound whose header says gigabytes: 2^35 samples of FLAC, or 4 GiB of wav."""
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(1000, np.int16), 1000, format=audio.upper(), subtype="PCM_16")
    data = bytearray(stream.getvalue())
    if audio == "flac":
        data[21] = (data[21] & 0xF0) | 0x8  # the highest of the 36 bits that count the samples
    else:
        data[40:44] = (2**32 - 2).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("audio", ["flac", "wav"])
def test_sound_that_claims_gigabytes_allocates_none(audio: str) -> None:
    with memory_limited(1 << 30), pytest.raises(DamagedExample, match="k: "):
        decode("k", {audio: lying(audio), "json": b"{}"}, 1000)


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    path, made = tmp_path / name, tmp_path / "made"
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        write({"format": 1, "network": Touch(made)}, path)
        with pytest.raises(UserError, match=str(path)):
            load(path)
        assert not made.exists()


def test_safetensors_that_claim_terabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": np.zeros(4, np.float32)}, path)
    for old, new in ((b"[4]", b"[9]"), (b"[0,16]", b"[0,99]")):
        path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(UserError):
        load(path)
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError):
        load(path)
