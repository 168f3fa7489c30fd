from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shards.errors import UserError
from shards.storage import names_in, reaching


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    for place in (f"{tmp_path}/nowhere", f"file://{tmp_path}/nowhere", f"memory://{tmp_path.name}/nowhere"):
        assert names_in(place) == set()


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
