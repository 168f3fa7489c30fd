"""Freed memory stays with the process where there is glibc, and nothing happens where there is none."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from shards.allocator import keep_freed_memory

TENSOR = 2**26  # bytes; more than glibc ever takes from its heap unasked
PROGRAM = f"""
import resource, sys
from pathlib import Path
from shards.allocator import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
held = bytearray({TENSOR})
del held
print(resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
@pytest.mark.parametrize(("choice", "kept"), [("keep", True), ("as it is", False)])
def test_freed_memory_stays_resident_only_where_that_was_asked_for(choice: str, kept: bool) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 0.9 * TENSOR) == kept


def test_nothing_is_called_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # neither its version nor mallopt, as musl and macOS
    keep_freed_memory()
