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


def add_package(venv: Path, name: str, version: str, *requires: str, source: str = "") -> None:
    (site_packages(venv) / f"{name}.py").write_text(source)
    facts = site_packages(venv) / f"{name}-{version}.dist-info"
    facts.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {it}" for it in requires),
    ]
    (facts / "METADATA").write_text("\n".join(lines) + "\n")


def start(root: Path, path: Path, venv: Path, python: str = "", **environment: str) -> subprocess.Popen[str]:
    variables = {"PATH": str(path), "NOTES": str(path / "notes"), **environment}
    # A job that a shell put into the background ignores SIGINT, and so would all its children: not this one.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", heeding, "sh", "conf/setup.sh", str(venv), "dev,demo", python]
    return subprocess.Popen(command, cwd=root, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status, and what was said."""
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def pins(venv: Path) -> dict[str, str]:
    return dict(line.split("==") for line in (venv / "constraints.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("pythons", "wanted", "said"),
    [
        ({"python3": "exit 127", "python3.12": "exit 1"}, "", "no Python of version 3.11, 3.12 or 3.13 ; install one"),
        ({"python3": f'exec {sys.executable} "$@"'}, "python3.99", "behind PYTHON=python3.99"),
        ({"python3": 'case "$2" in *ensurepip*) exit 1;; esac'}, "", "python3 has no venv and ensurepip; install them"),
        (
            {
                "python3": "exit 127",
                "python3.13": f'[ "$1" = -c ] || [ "$1" = --version ] && exec {sys.executable} "$@"',
            },
            "",
            "python3.13 could not make",
        ),
    ],
)
def test_the_first_python_that_runs_is_taken_and_what_it_lacks_is_said(
    root: Path, path: Path, tmp_path: Path, pythons: dict[str, str], wanted: str, said: str
) -> None:
    for name, script in pythons.items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    code, stderr = finish(start(root, path, tmp_path / "new", wanted))
    *before, last = stderr.splitlines()
    assert code == 1 and said in last and not (tmp_path / "new").exists()
    assert all(line.startswith(f"setup: making {tmp_path / 'new'} with Python 3.") for line in before)


def test_an_environment_without_its_python_is_named(root: Path, path: Path, tmp_path: Path) -> None:
    (tmp_path / "old" / "bin").mkdir(parents=True)
    (tmp_path / "old" / "bin" / "python").symlink_to("/nowhere/python3")
    code, stderr = finish(start(root, path, tmp_path / "old"))
    assert code == 1 and f"{tmp_path / 'old'} has no working Python" in stderr


def test_a_fresh_environment_gets_every_pin_and_is_told_what_it_takes(root: Path, path: Path, venv: Path) -> None:
    add_package(venv, "torch", "2.13.0", source="raise ImportError('half of it is missing')")  # such a one is not kept
    code, stderr = finish(start(root, path, venv))
    assert code == 0 and stderr.count("\n") == 2 and "GB on disk" in stderr and "keeping" not in stderr
    asked = (path / "notes").read_text().splitlines()
    assert asked[-2:] == ["-e", ".[dev,demo]"] and str(venv / "constraints.txt") in asked
    assert pins(venv)["torch"] == "2.14.1" and pins(venv)["torchvision"] == "0.29.1"


def test_another_torch_is_kept_with_what_it_asks_for(root: Path, path: Path, venv: Path) -> None:
    add_package(venv, "torch", "2.13.0+cpu", "sympy==1.13.1", "typing-extensions>=4.10; python_version > '3'")
    add_package(venv, "torchvision", "0.28.0+cpu", "torch==2.13.0", "numpy")
    code, stderr = finish(start(root, path, venv))
    assert code == 0 and "keeping torch 2.13.0+cpu and torchvision 0.28.0+cpu" in stderr and "GB" not in stderr
    found = pins(venv)
    assert found["torch"] == "2.13.0+cpu" and found["torchvision"] == "0.28.0+cpu"
    assert not {"sympy", "typing_extensions", "numpy"} & set(found) and {"av", "hydra-core"} <= set(found)


def test_a_failing_pip_and_an_interruption_end_in_a_line_of_ours(root: Path, path: Path, venv: Path) -> None:
    code, stderr = finish(start(root, path, venv, PIP_EXIT="1"))
    assert code == 1 and "The same command goes on from there" in stderr.splitlines()[-1] and "is ready" not in stderr
    (path / "notes").unlink()
    process = start(root, path, venv, PIP_SECONDS="300")
    while not (path / "notes").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    code, stderr = finish(process)
    assert code == 130 and "interrupted; the same command goes on from here" in stderr and "is ready" not in stderr
