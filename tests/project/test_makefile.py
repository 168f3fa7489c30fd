"""`make` as a user types it: what reaches the command, that nothing typed is run, and what help lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.cli.commands import COMMANDS

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


# Words as typed, and the target that hands them on: all of them, or in the case of check-shards the folder alone.
HANDED_ON = [
    ("train", ["student=soundnet5", "loss=l2", "learn_from=[objects]"]),
    ("demo", ["videos=/my/a, b (x); c & d | e", 'shards=it\'s "here"', "two=  blanks  "]),
    ("teacher-shards", ["videos=$HOME/$(x)/$$/`id`", "shards=a\\ b\\", "note=#1 *?[a] <b> !c %d", "tab=a\tb"]),
    ("tag", ["clip.windows=2", "+new=1", "++new.deep={a: 1, b: [2, 3]}", "~gone=", "empty=", "home=~/x", "url=a=b:=c"]),
    ("relabel", ["unclosed=$(", "brace=${x", "accent=où été 録音 ␠␛", "hydra.sweep.dir=/tmp/x", "C=0.01"]),
]


@pytest.mark.parametrize(("target", "words"), HANDED_ON)
def test_settings_reach_the_command_as_typed(root: Path, venv: Path, target: str, words: list[str]) -> None:
    arguments, environment = make(root, venv, target, "PYTHON=python3.12", *words)
    _, module, *settings = arguments
    assert f"$(RUN) {module} " in targets(root)[target]
    assert sorted(settings) == sorted(word.replace("=  ", "=") for word in words)  # make drops what leads a value
    assert not {word.partition("=")[0] for word in words} & set(environment)


def test_names_of_the_makefile_itself_are_refused(root: Path, venv: Path, tmp_path: Path) -> None:
    """Some would be lost on the way to the command, RUN would be run in its stead."""
    own = set(re.findall(r"(?:^|: |foreach )([A-Z]+)(?: [:?]?=|,)", (root / "Makefile").read_text(), re.MULTILINE))
    own -= {"VENV"}
    assert {"NAME", "RUN", "EXTRAS"} <= own
    for name in own:
        words = ["make", "-s", f"VENV={venv}", "train", "student=soundnet5", f"{name}=$(shell touch {tmp_path}/made)"]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert not (tmp_path / "made").exists()
        assert re.search(rf"\b{name}\b.* are the Makefile's own: no setting is called so", done.stderr)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).map(str.lstrip))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_arrives_whole(root: Path, venv: Path, value: str) -> None:
    assert make(root, venv, "demo", f"videos={value}")[0] == ["-m", "evaluate.demo", f"videos={value}"]


def test_a_setting_inside_another_stands_behind_it(root: Path, venv: Path) -> None:
    words = ["student.layers=[]", "student.layers.0.kernel=3", "student=soundnet5"]
    assert make(root, venv, "sweep", *words)[0] == ["-m", "train", "--multirun", words[2], *words[:2]]


def test_no_target_runs_what_a_setting_says(root: Path, venv: Path, tmp_path: Path) -> None:
    """Not to make, nor to a shell: outside of quotes, inside of them and behind them."""
    value = "$(shell touch {0})$$(touch {0})`touch {0}`'; touch {0}; '$(eval x:=$(shell touch {0}))"
    typed = value.format(tmp_path / "made")
    words = [f"{name}={typed}" for name in ("shards", "videos", "full", "C", "a.b")]
    for target in targets(root):
        subprocess.run(["make", "-s", f"VENV={venv}", target, *words], cwd=root, capture_output=True, check=True)
        assert not (tmp_path / "made").exists(), target
    assert make(root, venv, "check-shards", *words)[0] == ["-m", "shards", *sorted(words)]


def test_help_is_the_default_and_lists_every_target(root: Path) -> None:
    shown = subprocess.run(["make", "-s"], cwd=root, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in shown.splitlines()}
    rules = set(re.findall(r"^([a-z][\w-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    assert listed == rules == set(targets(root)) and {"setup", "demo", "test", "teacher-shards"} <= listed


def test_every_target_runs_a_module_that_is_there(root: Path) -> None:
    modules = {module for recipe in targets(root).values() for module in re.findall(r"\$\(RUN\) ([\w.]+)", recipe)}
    assert {"pytest", "pipeline"} <= modules
    assert [module for module in sorted(modules) if find_spec(module) is None] == []


def test_soundnet_has_the_same_commands(root: Path) -> None:
    """All but those that need a checkout: its environment, tests and benchmarks."""
    found, text = {}, (root / "Makefile").read_text()
    lines = re.findall(r"^([a-z0-9-]+):.*## (.*)\n\t\$\(RUN\) (.*) \$\(OVERRIDES\)$", text, re.MULTILINE)
    for name, about, run in lines:
        module, *words = run.split()
        found[name] = (module, tuple(words), about)
    extra = {name for name in found if name.startswith("bench-")} | {"gpu-check", "test-machines"}
    expected = {name: (command.module, command.words, command.about) for name, command in COMMANDS.items()}
    assert found.keys() - extra == expected.keys()
    assert {name: found[name] for name in expected} == expected


def test_a_fresh_environment_is_set_up_first(root: Path, tmp_path: Path) -> None:
    plan = subprocess.run(["make", "-n", f"VENV={tmp_path}/new", "demo"], cwd=root, capture_output=True, text=True)
    steps = plan.stdout.splitlines()
    assert steps[0].startswith(f"sh conf/setup.sh {tmp_path}/new dev,demo")
    assert steps[-1].rstrip() == f"{tmp_path}/new/bin/python -m evaluate.demo"
