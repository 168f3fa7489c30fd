"""Imports point one way: pipeline --> shards <-- train; evaluate --> all three; nobody --> soundnet; one has Hydra."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("shards", "pipeline", "train", "evaluate", "soundnet")
FORBIDDEN = {
    "shards": {"pipeline", "train", "evaluate", "soundnet", "torch", "torchvision", "torchcodec"},
    "pipeline": {"train", "evaluate", "soundnet"},
    "train": {"pipeline", "evaluate", "soundnet"},
    "evaluate": {"soundnet"},
    "soundnet": {"pipeline", "train", "evaluate", "torch", "torchvision"},  # it knows them by name: own("train.model")
}
NOBODY = {"conf", "tests"}
HYDRA = {"hydra", "omegaconf"}
HYDRA_HOME = Path("shards/cli/command.py")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            yield node.lineno, (node.module or node.names[0].name).partition(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value).partition(".")[0]


def violations(root: Path) -> list[str]:
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            relative = path.relative_to(root)
            forbidden = FORBIDDEN[room] | NOBODY | (set() if relative == HYDRA_HOME else HYDRA)
            found += [
                f"{relative}:{line} imports {package}"
                for line, package in imported(path.read_text())
                if package in forbidden
            ]
    return found


def test_imports_point_one_way(root: Path) -> None:
    assert all((root / room / "__init__.py").is_file() for room in ROOMS)
    assert violations(root) == []


@pytest.mark.parametrize(
    ("path", "source", "package"),
    [
        ("shards/a.py", "import torch.nn as nn", "torch"),
        ("shards/a/b.py", "def f():\n    from pipeline.run import run", "pipeline"),
        ("pipeline/a.py", "from train import student", "train"),
        ("pipeline/a.py", "from ..train import student", "train"),
        ("train/a.py", "if TYPE_CHECKING:\n    import pipeline.frames", "pipeline"),
        ("train/a.py", "import os, evaluate", "evaluate"),
        ("evaluate/a.py", "import soundnet", "soundnet"),
        ("soundnet/a.py", "from train.run import run", "train"),
        ("evaluate/a.py", "from tests.conftest import shared", "tests"),
        ("evaluate/a.py", "from importlib import import_module\nimport_module('conf.x')", "conf"),
        ("train/model/layers.py", "from omegaconf import OmegaConf", "omegaconf"),
        ("shards/cli/settings.py", "import hydra", "hydra"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, source: str, package: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    (line,) = violations(tmp_path)
    assert line.startswith(f"{path}:") and line.endswith(f"imports {package}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("shards/cli/command.py", "import hydra\nfrom omegaconf import OmegaConf"),
        (
            "evaluate/a.py",
            "import torch, train.model.student, pipeline.decoder.reader\nfrom shards.format.clip import ClipSpec",
        ),
        ("train/a.py", "from . import student\nfrom shards import reader\nimport torch  # not pipeline"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []


MOST_ROOMS = 9  # on one level: a folder that can be drawn after one look


def rooms_of(folder: Path) -> set[str]:
    """Modules and packages on one level of the product, or of the tests."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__", "conftest"}
    return modules | {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}


def test_no_level_has_more_rooms_than_can_be_drawn(root: Path) -> None:
    folders = [each for top in (*ROOMS, "tests") for each in (root / top, *(root / top).rglob("*/")) if each.is_dir()]
    crowded = {str(folder.relative_to(root)): len(rooms_of(folder)) for folder in folders}
    assert {folder: count for folder, count in crowded.items() if count > MOST_ROOMS} == {}


def arrows(root: Path) -> dict[str, set[str]]:
    """{module: the project's own modules that it imports}, imports in functions and under TYPE_CHECKING included."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
    }
    found: dict[str, set[str]] = {module: set() for module in paths}
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= {name if name in paths else node.module for name in names}
            elif isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
    return {module: (targets & paths.keys()) - {module} for module, targets in found.items()}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of names that all lead to each other."""

    def reach(start: str) -> set[str]:
        seen, waiting = set[str](), [start]
        while waiting:
            for name in graph.get(waiting.pop(), set()) - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reached = {name: reach(name) for name in graph}
    return [
        {name, *(other for other in reached[name] if name in reached[other])} for name in graph if name in reached[name]
    ]


def test_no_circle_among_modules_or_among_the_rooms_of_a_level(root: Path) -> None:
    graph = arrows(root)
    assert circles(graph) == []
    levels = {module.rpartition(".")[0] for module in graph} | {""}
    for level in levels:
        start = f"{level}." if level else ""
        rooms: dict[str, set[str]] = {}
        for module, targets in graph.items():
            inside = [name[len(start) :].partition(".")[0] for name in (module, *targets) if name.startswith(start)]
            if module.startswith(start) and not module.endswith("__main__"):
                rooms.setdefault(inside[0], set()).update(inside[1:])
        assert circles({room: targets - {room} for room, targets in rooms.items()}) == [], level


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    for path, source in {
        "shards/a.py": "def f():\n    from shards.b import g",
        "shards/b.py": "import shards.c",
        "shards/c.py": "from shards import a",
        "shards/d.py": "import shards.a",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    assert {frozenset(circle) for circle in circles(arrows(tmp_path))} == {
        frozenset({"shards.a", "shards.b", "shards.c"})
    }
