"""conf/setup.sh without a network: which Python it takes, what it says when it cannot go on, and the torch it keeps."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import ROOT, Process, finish, wait_until

# Stands where pip would: notes what it was asked to install, and does what PIP says.
PIP = """
import os, sys, time
if "install" in sys.argv:
    open(os.environ["NOTES"], "w").write("\\n".join(sys.argv[1:]))
    exec(os.environ.get("PIP", ""))
"""
# A job that a shell put into the background ignores SIGINT, and so would all its children: not this one.
HEEDING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
REAL = f'exec {sys.executable} "$@"'
Setup = Callable[..., Process]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """setup(venv, python) starts the script where no Python is but those in tmp_path/path."""
    (tmp_path / "path").mkdir()
    for tool in ("sh", "dirname", "uname"):
        (tmp_path / "path" / tool).symlink_to(str(shutil.which(tool)))

    def start(venv: Path, python: str = "", **variables: str) -> Process:
        variables |= {"PATH": str(tmp_path / "path"), "NOTES": str(tmp_path / "notes")}
        words = [sys.executable, "-c", HEEDING, "sh", "conf/setup.sh", str(venv), "dev,demo", python]
        streams = {"stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, cwd=ROOT, env=variables, start_new_session=True, **streams)

    return start


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A real environment with a stand-in for pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    add_package(tmp_path / "venv", "pip", "1", source=PIP)
    return tmp_path / "venv"


def add_package(venv: Path, name: str, version: str, *requires: str, source: str = "") -> None:
    packages = next((venv / "lib").glob("python3*/site-packages"))
    (packages / f"{name}.py").write_text(source)
    (packages / f"{name}-{version}.dist-info").mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *map("Requires-Dist: {}".format, requires),
    ]
    (packages / f"{name}-{version}.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")


def pins(venv: Path) -> dict[str, str]:
    return dict(line.split("==") for line in (venv / "constraints.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("pythons", "wanted", "said"),
    [
        ({"python3": "exit 127", "python3.12": "exit 1"}, "", "no Python of version 3.11, 3.12 or 3.13 ; install one"),
        ({"python3": REAL}, "python3.99", "behind PYTHON=python3.99"),
        ({"python3": 'case "$2" in *ensurepip*) exit 1;; esac'}, "", "python3 has no venv and ensurepip; install them"),
        ({"python3": "exit 127", "python3.13": f'[ "$1" != -m ] && {REAL}'}, "", "python3.13 could not make"),
    ],
)
def test_the_first_python_that_runs_is_taken_and_what_it_lacks_is_said(
    setup: Setup, tmp_path: Path, pythons: dict[str, str], wanted: str, said: str
) -> None:
    for name, script in pythons.items():
        (tmp_path / "path" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "path" / name).chmod(0o755)
    *before, last = finish(setup(tmp_path / "new", wanted), 1).splitlines()
    assert said in last and not (tmp_path / "new").exists()
    assert all(line.startswith(f"setup: making {tmp_path / 'new'} with Python 3.") for line in before)


def test_an_environment_without_its_python_is_named(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/nowhere/python3")
    assert f"{tmp_path} has no working Python" in finish(setup(tmp_path), 1)


def test_a_fresh_environment_gets_every_pin_and_is_told_what_it_takes(setup: Setup, venv: Path, tmp_path: Path) -> None:
    add_package(venv, "torch", "2.13.0", source="raise ImportError('half of it is missing')")  # such a one is not kept
    said = finish(setup(venv))
    assert said.count("\n") == 2 and "GB on disk" in said and "keeping" not in said
    asked = (tmp_path / "notes").read_text().splitlines()
    assert asked[-2:] == ["-e", ".[dev,demo]"] and str(venv / "constraints.txt") in asked
    assert pins(venv)["torch"] == "2.14.1" and pins(venv)["torchvision"] == "0.29.1"


def test_another_torch_is_kept_with_what_it_asks_for(setup: Setup, venv: Path) -> None:
    add_package(venv, "torch", "2.13.0+cpu", "sympy==1.13.1", "typing-extensions>=4.10; python_version > '3'")
    add_package(venv, "torchvision", "0.28.0+cpu", "torch==2.13.0", "numpy")
    said, found = finish(setup(venv)), pins(venv)
    assert "keeping torch 2.13.0+cpu and torchvision 0.28.0+cpu" in said and "GB" not in said
    assert found["torch"] == "2.13.0+cpu" and found["torchvision"] == "0.28.0+cpu"
    assert not {"sympy", "typing_extensions", "numpy"} & set(found) and {"av", "hydra-core"} <= set(found)


def test_a_failing_pip_and_an_interruption_end_in_a_line_of_ours(setup: Setup, venv: Path, tmp_path: Path) -> None:
    said = finish(setup(venv, PIP="sys.exit(1)"), 1)
    assert "The same command goes on from there" in said.splitlines()[-1] and "is ready" not in said
    (tmp_path / "notes").unlink()
    process = setup(venv, PIP="time.sleep(300)")
    wait_until((tmp_path / "notes").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    said = finish(process, 130)
    assert "interrupted; the same command goes on from here" in said and "is ready" not in said
