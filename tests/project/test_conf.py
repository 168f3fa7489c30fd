"""Every choice in conf/ composes, and becomes the settings of the command that reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from shards.cli.command import CONF, compose
from shards.cli.help import group_comments, meanings
from shards.cli.settings import leaves

ROOT = CONF.parent


def commands() -> dict[str, tuple[str, str]]:
    """{config: (module, name of its settings)} of each `command(Settings, "config", run)` in the rooms."""
    found = {}
    rooms = ("shards", "pipeline", "train", "evaluate")
    sources = {path: path.read_text() for room in rooms for path in sorted((ROOT / room).rglob("*.py"))}
    for path in (path for path, source in sources.items() if "command(" in source):
        for node in ast.walk(ast.parse(sources[path])):
            match node:
                case ast.Call(func=ast.Name("command"), args=[ast.Name(settings), ast.Constant(str(config)), *_]):
                    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                    found[config] = (module, settings)
    return found


COMMANDS = commands()
CHOICES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))


def settings_of(config: str) -> Any:
    """The dataclass; a `__main__` imports it within, while its libraries are loaded."""
    module, name = COMMANDS[config]
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    homes = {alias.name: node.module for node in imports for alias in node.names}
    return getattr(import_module(homes.get(name) or module), name)


def example(config: str) -> tuple[str, list[str]]:
    """(make target, settings) of the command that a file opens with: `# make train shards=... run=...`."""
    make, target, *words = (CONF / f"{config}.yaml").read_text().splitlines()[0].removeprefix("# ").split()
    assert make == "make"
    return target, words


def composed(config: str, *overrides: str) -> Any:
    return compose(settings_of(config), config, [*example(config)[1], *overrides])


def test_each_file_has_its_command_and_each_command_its_file() -> None:
    assert set(COMMANDS) == {path.stem for path in CONF.glob("*.yaml")}


@pytest.mark.parametrize("config", COMMANDS)
def test_the_example_composes(config: str) -> None:
    assert re.search(rf"^{example(config)[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert isinstance(composed(config), settings_of(config))


@pytest.mark.parametrize("config", COMMANDS)
def test_no_key_shares_the_name_of_a_group(config: str) -> None:
    hints = get_type_hints(settings_of(config))
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert [name for name in groups & set(hints) if not is_dataclass(hints[name])] == []


@pytest.mark.parametrize("config", COMMANDS)
def test_what_is_refused_is_said_in_words(config: str) -> None:
    """Each number as 0 and as -1: where a dataclass refuses it, the line does not show the dataclass's own text."""
    lines = [line for part in parts(composed(config)) for line in refusals(part)]
    assert [line for line in lines if re.search(r"\b[A-Z]\w*\(|self\.|\n", line)] == []


def parts(settings: Any) -> Iterator[Any]:
    """The dataclass and those in it."""
    if is_dataclass(settings):
        yield settings
        for field in fields(settings):
            yield from parts(getattr(settings, field.name))
    elif isinstance(settings, list | tuple | dict):
        for item in settings.values() if isinstance(settings, dict) else settings:
            yield from parts(item)


def refusals(part: Any) -> Iterator[str]:
    for name, kind in get_type_hints(type(part)).items():
        for value in (0, -1) if {int, float} & {kind, *get_args(kind)} and get_origin(kind) is not list else ():
            try:
                replace(part, **{name: value})
            except ValueError as error:
                yield str(error)


@pytest.mark.parametrize("config", COMMANDS)
def test_every_setting_says_what_it_does(config: str) -> None:
    """Beside its definition, in one plain line; a group of settings that is chosen as a file does so too."""
    text = (CONF / f"{config}.yaml").read_text()
    groups = re.findall(r"^  - (\w+): ", text, re.MULTILINE)
    lines = meanings(settings_of(config))
    said = group_comments(CONF / f"{config}.yaml") | {key: line for key, line in lines.items() if line}
    keys = [key for key, _, _ in leaves(settings_of(config))]
    assert [key for key in (*keys, *groups) if len(said.get(key, "").split()) < 2] == []


@pytest.mark.parametrize("config", COMMANDS)
def test_a_file_says_of_each_setting_what_help_says(config: str) -> None:
    lines, parents, found = meanings(settings_of(config)), [""], {}
    for line in (CONF / f"{config}.yaml").read_text().splitlines():
        if match := re.fullmatch(r"(?P<indent> *)(?:- )?(?P<key>\w+):[^#]*(?:# (?P<comment>.*))?", line):
            depth = len(match["indent"]) // 2
            parents = [*parents[: depth + 1], match["key"]]
            key = ".".join(parents[1:]).removeprefix("defaults.")
            found[key] = match["comment"] or ""
    wrong = {key: lines[key] for key, comment in found.items() if lines.get(key) and comment != lines[key]}
    assert wrong == {}, "these comments belong there"


def takes(path: Path, group: str) -> bool:
    """Whether a file's defaults list has a group: `  - clip: paper`."""
    return re.search(rf"^  - {group}: ", path.read_text(), re.MULTILINE) is not None


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    group, option = choice.split("/")
    users = [config for config in COMMANDS if takes(CONF / f"{config}.yaml", group)]
    assert users, f"no command has the group {group}"
    for config in users:
        if f"{group}={option}" not in getattr(settings_of(config), "not_offered", ()):
            assert isinstance(composed(config, f"{group}={option}"), settings_of(config))
