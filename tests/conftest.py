"""What all tests share: the folder of real data beside the checkout, one thread, and the skip of tests for a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch or numpy is imported by anyone: the machine's cores are shared by the tests that run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What make was given for `make test` is not meant for the tests that run make themselves.
for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)

# How long an example takes says how busy the machine is, and nothing of the program.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """Real videos and recordings that are too large for the repository, in a folder beside it."""
    folder = root.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: it holds the real videos and recordings")
    return folder


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for the processes that they start."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none")
