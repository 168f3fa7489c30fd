"""conf/setup.sh without a network: which Python it takes, what it says when it cannot go on, and the torch it keeps."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Stands where pip would: notes what it was asked to install, or waits to be interrupted.
PIP = """
import os, sys, time
from pathlib import Path
if "install" in sys.argv:
    Path(os.environ["NOTES"]).write_text("\\n".join(sys.argv[1:]))
    time.sleep(float(os.environ.get("PIP_SECONDS", 0)))
    sys.exit(int(os.environ.get("PIP_EXIT", 0)))
"""
HEEDING_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH on which no Python is but those that a test puts there."""
    folder = tmp_path / "path"
    folder.mkdir()
    for tool in ("sh", "dirname", "uname"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A real environment with a stand-in for pip."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    package = site_packages(folder) / "pip"
    package.mkdir()
    (package / "__main__.py").write_text(PIP)
    return folder


def site_packages(venv: Path) -> Path:
    return next((venv / "lib").glob("python3*/site-packages"))


def put(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


def add_package(venv: Path, name: str, version: str, *requires: str, broken: bool = False) -> None:
    folder = site_packages(venv)
    (folder / f"{name}.py").write_text("raise ImportError('half of it is missing')" if broken else "")
    (folder / f"{name}-{version}.dist-info").mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {it}" for it in requires),
    ]
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")


def set_up(
    root: Path, path: Path, venv: Path, python: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": str(path), "NOTES": str(path / "notes"), **environment}
    command = ["sh", "conf/setup.sh", str(venv), "dev,demo", python]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=60)


def pins(venv: Path) -> dict[str, str]:
    return dict(line.split("==") for line in (venv / "constraints.txt").read_text().splitlines())


def test_no_fitting_python_is_one_line(root: Path, path: Path, tmp_path: Path) -> None:
    put(path, "python3", "echo 'shim: command not found' >&2; exit 127")
    put(path, "python3.12", "exit 1")  # one that is there and is too old, or too new
    done = set_up(root, path, tmp_path / "new")
    assert done.returncode == 1 and not (tmp_path / "new").exists()
    assert len(done.stderr.splitlines()) == 1
    assert "no Python of version 3.11, 3.12 or 3.13" in done.stderr and "PYTHON=" in done.stderr


def test_the_python_asked_for_is_the_one_tried(root: Path, path: Path, tmp_path: Path) -> None:
    put(path, "python3", f'exec {sys.executable} "$@"')
    done = set_up(root, path, tmp_path / "new", python="python3.99")
    assert done.returncode == 1 and "behind PYTHON=python3.99" in done.stderr


def test_missing_venv_is_one_line(root: Path, path: Path, tmp_path: Path) -> None:
    put(path, "python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = set_up(root, path, tmp_path / "new")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "python3 has no venv and ensurepip" in done.stderr and "apt install python3-venv" in done.stderr


def test_the_first_python_that_runs_makes_the_environment(root: Path, path: Path, tmp_path: Path) -> None:
    put(path, "python3", "exit 127")
    make_venv = f'{sys.executable} -m venv --without-pip "$3" && mkdir "$3/pip" && exit 1'
    put(path, "python3.13", f'if [ "$1 $2" = "-m venv" ]; then {make_venv}; else exec {sys.executable} "$@"; fi')
    done = set_up(root, path, tmp_path / "new")
    assert f"making {tmp_path / 'new'} with Python 3." in done.stderr
    assert done.returncode == 1 and "python3.13 could not make" in done.stderr


def test_a_fresh_environment_is_told_what_it_takes(root: Path, path: Path, venv: Path) -> None:
    done = set_up(root, path, venv)
    assert done.returncode == 0 and done.stderr.count("\n") == 2
    if sys.platform == "linux":
        assert "about 3 GB" in done.stderr and "7 GB on disk" in done.stderr
    asked = (path / "notes").read_text().splitlines()
    assert asked[-2:] == ["-e", ".[dev,demo]"] and str(venv / "constraints.txt") in asked
    assert pins(venv)["torch"] == "2.14.1" and pins(venv)["torchvision"] == "0.29.1"


def test_another_torch_is_kept_with_what_it_asks_for(root: Path, path: Path, venv: Path) -> None:
    add_package(venv, "torch", "2.13.0+cpu", "sympy==1.13.1", "typing-extensions>=4.10; python_version > '3'")
    add_package(venv, "torchvision", "0.28.0+cpu", "torch==2.13.0", "numpy")
    done = set_up(root, path, venv)
    assert done.returncode == 0 and "keeping torch 2.13.0+cpu and torchvision 0.28.0+cpu" in done.stderr
    assert "3 GB" not in done.stderr
    found = pins(venv)
    assert found["torch"] == "2.13.0+cpu" and found["torchvision"] == "0.28.0+cpu"
    assert not {"sympy", "typing_extensions", "numpy"} & set(found) and {"av", "hydra-core"} <= set(found)


def test_the_same_torch_keeps_every_pin(root: Path, path: Path, venv: Path) -> None:
    add_package(venv, "torch", "2.14.1+cpu", "sympy")
    add_package(venv, "torchvision", "0.29.1+cpu", "numpy")
    assert set_up(root, path, venv).returncode == 0
    assert pins(venv)["torch"] == "2.14.1+cpu" and {"sympy", "numpy"} <= set(pins(venv))


def test_a_torch_that_does_not_import_is_not_kept(root: Path, path: Path, venv: Path) -> None:
    add_package(venv, "torch", "2.13.0", broken=True)
    add_package(venv, "torchvision", "0.28.0")
    assert "keeping" not in set_up(root, path, venv).stderr and pins(venv)["torch"] == "2.14.1"


def test_a_failing_pip_ends_in_one_line_of_ours(root: Path, path: Path, venv: Path) -> None:
    done = set_up(root, path, venv, PIP_EXIT="1")
    assert done.returncode == 1 and "The same command goes on from there" in done.stderr.splitlines()[-1]
    assert "is ready" not in done.stderr


def test_an_environment_without_its_python_is_named(root: Path, path: Path, tmp_path: Path) -> None:
    (tmp_path / "old" / "bin").mkdir(parents=True)
    (tmp_path / "old" / "bin" / "python").symlink_to("/nowhere/python3")
    done = set_up(root, path, tmp_path / "old")
    assert done.returncode == 1 and f"{tmp_path / 'old'} has no working Python" in done.stderr


def test_an_interruption_says_how_to_go_on(root: Path, path: Path, venv: Path) -> None:
    variables = {"PATH": str(path), "NOTES": str(path / "notes"), "PIP_SECONDS": "30"}
    # A job that a shell put into the background ignores SIGINT, and so would all its children: not this one.
    command = [sys.executable, "-c", HEEDING_SIGINT, "sh", "conf/setup.sh", str(venv), "dev,demo"]
    with subprocess.Popen(
        command, cwd=root, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 30
        while not (path / "notes").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted; the same command goes on from here" in stderr
    assert "is ready" not in stderr
