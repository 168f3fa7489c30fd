"""pyproject.toml and constraints.txt agree, and say nothing that holds on one machine alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shards.cli.commands import COMMANDS


def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_every_direct_dependency_is_pinned_within_its_range(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned_extras = [text for name, texts in extras.items() if name != "bench" for text in texts]
    needs = [Requirement(text) for text in [*project["dependencies"], *pinned_extras]]
    wanted = [need for need in needs if need.name != project["name"]]  # dev asks for other extras by that name
    pinned = pins(root)
    assert [str(need) for need in wanted if not need.specifier.contains(pinned[canonicalize_name(need.name)])] == []
    assert {need.name for need in wanted} >= {"torch", "torchvision", "webdataset", "av", "hydra-core", "pytest"}


def test_the_extras_that_commands_name_are_there(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for command in COMMANDS.values() for extra in command.extras.split(",")} - {""} <= extras.keys()


def test_constraints_hold_on_every_platform(root: Path) -> None:
    text = (root / "constraints.txt").read_text()
    assert not re.search(r"file:|://|@ |^-e", text, re.MULTILINE)
    # torch names its own builds of these, for the platforms that have them
    assert [name for name in pins(root) if name.startswith(("nvidia-", "cuda-", "triton"))] == []
    assert pins(root)["torch"] == "2.14.1" and pins(root)["torchvision"] == "0.29.1"
