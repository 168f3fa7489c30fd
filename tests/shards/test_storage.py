from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from shards.errors import UserError
from shards.loader.index import metadata, require_there
from shards.storage import names_in, reaching

MakeShards = Callable[..., Path]
SHARDS = {"train-000001": 1, "train-000000": 2, "validation-000000": 1}


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, make_shards: MakeShards) -> str:
    """A shard folder at a path or behind a URL."""
    folder = make_shards(tmp_path / "shards", SHARDS)
    if request.param == "memory":
        fsspec.filesystem("memory").put(f"{folder}/", f"/location-{tmp_path.name}/", recursive=True)
    return {"path": f"{folder}", "file": f"file://{folder}", "memory": f"memory://location-{tmp_path.name}"}[
        request.param
    ]


def test_metadata_is_what_is_needed_of_one_split(place: str) -> None:
    with metadata(place, "train") as (folder, shards):
        assert shards == ["train-000000", "train-000001"]
        assert all((folder / f"{name}.json").is_file() for name in ("manifest", *shards))
    if "://" in place:
        assert not folder.exists()  # a temporary copy


def test_missing_files_are_named(place: str) -> None:
    require_there([f"{place}/{shard}.tar" for shard in SHARDS])
    with pytest.raises(UserError, match=r"holds train-000002\.json but not train-000002\.tar"):
        require_there([f"{place}/train-000000.tar", f"{place}/train-000002.tar"])


def test_a_folder_that_is_not_there_is_empty(place: str) -> None:
    assert names_in(f"{place}/nowhere") == set()


class LetThrough(Exception):
    """As botocore's are: no OSError."""


def test_the_other_sides_failure_is_one_line_whatever_package_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", SimpleNamespace(BotoCoreError=LetThrough))
    for error in (ConnectionResetError("reset by peer"), LetThrough("Could not connect")):
        message = f"^s3://x cannot be reached: {type(error).__name__}: {error}$"
        with pytest.raises(UserError, match=message), reaching("s3://x"):
            raise error
    with pytest.raises(KeyError), reaching("s3://x"):
        raise KeyError("ours")
