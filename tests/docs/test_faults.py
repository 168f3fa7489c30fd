"""docs/faults.md names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NODE = re.compile(r"(⏱ )?`(tests/[\w/]+\.py)::(\w+)`")


def test_every_row_names_tests_that_exist(root: Path) -> None:
    rows = [line for line in (root / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| fault |")]
    assert len(rows) > 25
    for row in rows:
        nodes = NODE.findall(row)
        assert nodes, f"no test proves: {row}"
        for slow, file, name in nodes:
            assert (slow != "") == is_slow(ast.parse((root / file).read_text()), name), f"{file}::{name}"


def is_slow(tree: ast.Module, name: str) -> bool:
    """Whether a test is marked as one of `make test-faults`. Raises KeyError where there is none of that name."""
    tests = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    marks = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign) and "mark" in ast.dump(node)]
    marks += map(ast.unparse, tests[name].decorator_list)
    return any("mark.faults" in mark for mark in marks)


def test_make_test_runs_the_quick_ones_and_ci_the_others(root: Path) -> None:
    assert "-m 'not faults'" in (root / "pyproject.toml").read_text()
    assert "pytest -m faults" in (root / "Makefile").read_text()
    assert "make test-faults" in (root / ".ci" / "run").read_text().splitlines()
