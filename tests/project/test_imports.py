"""Imports point one way: pipeline --> shards <-- train; evaluate --> all three; Hydra stays in one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("shards", "pipeline", "train", "evaluate")
FORBIDDEN = {
    "shards": {"pipeline", "train", "evaluate", "torch", "torchvision", "torchcodec"},
    "pipeline": {"train", "evaluate"},
    "train": {"pipeline", "evaluate"},
    "evaluate": set(),
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
