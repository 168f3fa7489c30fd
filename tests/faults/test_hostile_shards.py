"""Shards, weights and checkpoints of a stranger: refused in one line, nothing executed, written or allocated."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import save_file

from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from shards.errors import UserError
from shards.format.check import check
from shards.format.codec import DamagedExample, decode, decode_array
from shards.format.manifest import Manifest
from tests.faults.commands import ROOT
from train.checkpoint.checkpoint import load

MEMORY = 1 << 30  # bytes that a child may have beyond what it starts with


@pytest.fixture
def small(tmp_path: Path, make_shards: Callable[..., Path]) -> Path:
    return make_shards(tmp_path / "small", {"train-000000": 2})


def rewrite_side(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A side file that vouches for whatever its tar is now."""
    path, tar = folder / "train-000000.json", folder / "train-000000.tar"
    facts = json.loads(path.read_bytes())
    facts |= {"tar_bytes": tar.stat().st_size, "tar_sha256": hashlib.sha256(tar.read_bytes()).hexdigest()}
    change(facts)
    path.write_text(json.dumps(facts))


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
    with tarfile.open(small / "train-000000.tar", "a") as archive:
        archive.addfile(trick)
    rewrite_side(small, lambda facts: None)
    before = {path: path.stat().st_mtime_ns for path in small.parent.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "shards", "check", small], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"unexpected member {trick.name!r}" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in small.parent.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(shard="../../../etc/passwd"), "it describes shard"),
        (lambda facts: facts["members"]["wav"].__setitem__(0, [-1, 10]), "10 bytes at -1 cannot be"),
        (lambda facts: facts["members"]["wav"].__setitem__(0, [0, 2**62]), "not that of its members"),
        (lambda facts: facts["members"]["wav"].__setitem__(0, ["a", "b"]), "not a shard's side file"),
        (lambda facts: facts.update(keys=["../../a", "b"]), "not that of its members"),
        (lambda facts: facts.update(format=99), "has format 99, this program reads 3"),
    ],
    ids=["a path for a name", "before the tar", "behind the tar", "text", "a path for a key", "from the future"],
)
def test_a_side_file_that_lies_is_refused(small: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    rewrite_side(small, change)
    with pytest.raises(UserError, match=message):
        check(small)


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
    with pytest.raises(UserError, match=r"has format 7, this program reads 2: read it with the version that wrote"):
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


def limited(program: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """A child that has MEMORY more than its imports took."""
    prologue = (
        "import resource, sys\nfrom pathlib import Path\nimport shards.format.codec\n"
        "used = int(open('/proc/self/statm').read().split()[5]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, (used + {MEMORY}, used + {MEMORY}))\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
    )
    command = [sys.executable, "-c", prologue + program, *map(str, arguments)]
    place = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=place, capture_output=True, text=True, timeout=100, check=False)


def lying_flac() -> bytes:
    """A second of sound whose header says 2^35 samples, 64 GiB."""
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(1000, np.int16), 1000, format="FLAC", subtype="PCM_16")
    data = bytearray(stream.getvalue())
    data[21] = (data[21] & 0xF0) | 0x8  # the highest of the 36 bits that count the samples
    return bytes(data)


def lying_wav() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(1000, np.int16), 1000, format="WAV", subtype="PCM_16")
    data = bytearray(stream.getvalue())
    data[40:44] = (2**32 - 2).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(("audio", "data"), [("flac", lying_flac()), ("wav", lying_wav())], ids=["flac", "wav"])
def test_sound_that_claims_gigabytes_allocates_none(tmp_path: Path, audio: str, data: bytes) -> None:
    (tmp_path / "sound").write_bytes(data)
    program = (
        "from shards.format.codec import DamagedExample, decode\n"
        "try:\n    decode('k', {sys.argv[1]: Path('sound').read_bytes(), 'json': b'{}'}, 1000)\n"
        "except DamagedExample as error:\n    print('refused', error)\n"
    )
    done = limited(program, audio, folder=tmp_path)
    assert done.stdout.startswith("refused k: "), done.stderr


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


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_teachers_weights_with_code_in_them_are_refused_and_not_run(tmp_path: Path, how: str) -> None:
    weights, made = tmp_path / "weights.pth", tmp_path / "made"
    state = {"fc.weight": torch.zeros(2, 2), "other": Touch(made)}
    if how == "pickle":
        weights.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, weights, _use_new_zipfile_serialization=how == "zip")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    spec = TeacherSpec(
        "shufflenet_v2_x0_5",
        str(weights),
        Transform(40, 32, "rgb", [127.0] * 3, [64.0] * 3, "bicubic"),
        str(tmp_path / "classes.txt"),
    )
    with pytest.raises(UserError, match=str(weights)):
        cards(TeacherSet("small", {"objects": spec}))
    assert not made.exists()
