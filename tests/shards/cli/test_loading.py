"""Torch takes gigabytes of addresses, and login nodes of clusters limit them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shards.cli.loading import loading

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("words", [["pipeline"], ["soundnet", "export"]])  # one for each of the two ways
def test_too_few_addresses_for_the_libraries_are_one_line(words: list[str]) -> None:
    code = (
        "import resource, runpy, sys; del sys.argv[1]; resource.setrlimit(resource.RLIMIT_AS, (5 << 26,) * 2);"
        f"runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: the libraries do not fit into the 0.3 GB of addresses")
    assert done.stderr.count("\n") == 1 and "`ulimit -v unlimited`" in done.stderr


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("failed to map segment: not permitted")])
def test_other_errors_pass_through(error: Exception) -> None:
    """Where nothing is limited: a folder mounted without the right to run what is in it says the same."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("this process has a limit")
    with pytest.raises(type(error)), loading():
        raise error
