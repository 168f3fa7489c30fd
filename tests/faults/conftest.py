"""Small videos, a small network and small shards for the processes that are disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.conftest import network_folder, render
from tests.shards.conftest import make_shards
from tests.train.conftest import write_tones

__all__ = ["make_shards", "network_folder"]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos of 2 to 7 s."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(9):
        render(folder / f"{number}.mp4", 2.0 + number % 3 * 2.5, seed=number)
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "shards", {"train-000000": 20, "train-000001": 15, "validation-000000": 7})
