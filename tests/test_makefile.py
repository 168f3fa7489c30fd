"""`make` as a user types it: what reaches the command, what help lists, and what set-up says when it cannot go on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

STUB = f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that counts as installed, whose Python prints its arguments and environment."""
    folder = tmp_path_factory.mktemp("make") / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(STUB)
    (folder / "bin" / "python").chmod(0o755)
    for stamp in (".installed", ".installed-bench"):
        (folder / stamp).touch()
    return folder


def make(root: Path, venv: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of the command that make runs."""
    done = subprocess.run(["make", "-s", f"VENV={venv}", *words], cwd=root, capture_output=True, text=True, check=True)
    arguments, environment = json.loads(done.stdout)
    return arguments, environment


def targets(root: Path) -> dict[str, str]:
    """{target: recipe} of what `make help` lists."""
    return dict(re.findall(r"^([a-z0-9-]+):.*## .*\n(?:\t(.*)\n)?", (root / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "words",
    [
        ["student=soundnet5", "loss=l2", "learn_from=[objects]"],
        ["videos=/my/a, b (x); c & d | e", 'shards=it\'s "here"'],
        ["videos=$HOME/$(x)/$$/`id`", "shards=a\\ b\\", "note=#1 *?[a] <b> !c %d"],
        ["clip.windows=2", "+new=1", "++new.deep={a: 1, b: [2, 3]}", "~gone=", "empty=", "home=~/x", "url=a=b:=c"],
        ["tab=a\tb", "unclosed=$(", "accent=où été 録音", "hydra.sweep.dir=/tmp/x"],
    ],
)
def test_settings_reach_the_command_as_typed(root: Path, venv: Path, words: list[str]) -> None:
    arguments, _ = make(root, venv, "teacher-shards", *words)
    assert arguments[:2] == ["-m", "pipeline"]
    assert sorted(arguments[2:]) == sorted(words)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="␠␉␛")).map(str.lstrip))
@example("two  blanks  ")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_arrives_whole(root: Path, venv: Path, value: str) -> None:
    # But for blanks at its beginning, which make drops before anyone sees them.
    assert make(root, venv, "demo", f"videos={value}")[0] == ["-m", "evaluate.demo", f"videos={value}"]


def test_make_keeps_its_own_variables_and_exports_no_settings(root: Path, venv: Path) -> None:
    arguments, environment = make(root, venv, "relabel", "PYTHON=python3.12", "shards=a", "teachers=resnet50")
    assert sorted(arguments) == ["-m", "pipeline.relabel", "shards=a", "teachers=resnet50"]
    assert not {"shards", "teachers"} & set(environment)


def test_a_sweep_is_a_multirun(root: Path, venv: Path) -> None:
    arguments, _ = make(root, venv, "sweep", "student=soundnet5,soundnet8", "loss=kl,l2")
    assert arguments[:3] == ["-m", "train", "--multirun"]
    assert sorted(arguments[3:]) == ["loss=kl,l2", "student=soundnet5,soundnet8"]


def test_check_shards_takes_its_folder_whole(root: Path, venv: Path) -> None:
    folder = "/my shards/it's $1"
    assert make(root, venv, "check-shards", f"shards={folder}")[0] == ["-m", "shards", "check", folder]


def test_help_is_the_default_and_lists_every_target(root: Path) -> None:
    shown = subprocess.run(["make", "-s"], cwd=root, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in shown.splitlines()}
    rules = set(re.findall(r"^([a-z][\w-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    assert listed == rules == set(targets(root)) and {"setup", "demo", "test", "teacher-shards"} <= listed


def test_every_target_runs_a_module_that_is_there(root: Path) -> None:
    modules = {module for recipe in targets(root).values() for module in re.findall(r"\$\(RUN\) ([\w.]+)", recipe)}
    assert {"pytest", "pipeline"} <= modules
    assert [module for module in sorted(modules) if find_spec(module) is None] == []


def test_a_fresh_environment_is_set_up_first(root: Path, tmp_path: Path) -> None:
    plan = subprocess.run(["make", "-n", f"VENV={tmp_path}/new", "demo"], cwd=root, capture_output=True, text=True)
    steps = plan.stdout.splitlines()
    assert steps[0].startswith(f"sh conf/setup.sh {tmp_path}/new dev,demo")
    assert steps[-1].rstrip() == f"{tmp_path}/new/bin/python -m evaluate.demo"
