"""What contributors meet: the workflow runs .ci/run as CONTRIBUTING.md says, forms ask enough, the image runs make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FORMS = Path(__file__).resolve().parents[2] / ".github" / "ISSUE_TEMPLATE"


def test_the_workflow_runs_what_ci_runs(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (root / ".ci" / "run").stat().st_mode & 0o111
    runs = re.findall(r"^make [\w-]+", (root / ".ci" / "run").read_text(), re.MULTILINE)
    (said,) = re.findall(r"`.ci/run` .*", (root / "CONTRIBUTING.md").read_text())
    assert re.findall(r"`(make [\w-]+)`", said) == runs != []
    supported = re.search(r'requires-python = ">=(3\.\d+),<3\.(\d+)"', (root / "pyproject.toml").read_text())
    assert supported is not None
    assert job["strategy"]["matrix"]["python"] == [supported[1], f"3.{int(supported[2]) - 1}"]


@pytest.mark.parametrize("name", ["video", "bug"])
def test_a_form_asks_for_the_command_and_its_line(name: str) -> None:
    form = yaml.safe_load((FORMS / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= form.keys()  # GitHub shows no form without them
    fields: dict[str, Any] = {field["id"]: field for field in form["body"]}
    assert len(fields) == len(form["body"]) and all(field["attributes"]["label"] for field in fields.values())
    asked = {"command", "line", "expected"} | ({"ffprobe"} if name == "video" else set())
    assert {key for key, field in fields.items() if field.get("validations", {}).get("required")} == asked
    assert name != "video" or "ffprobe -hide_banner" in fields["ffprobe"]["attributes"]["description"]


def test_the_image_makes_the_environment_and_runs_a_target(root: Path) -> None:
    image = (root / "Dockerfile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r'\bmake[" ,]+([a-z]+)', image.partition("FROM")[2])) - {"python"}
        == {"setup", "demo"}
        <= targets
    )
    left_out = (root / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "data", "outputs"} <= set(left_out)
    assert not {path.name for path in root.iterdir() if path.name in left_out} & {
        "Makefile",
        "conf",
        "tests",
        "README.md",
    }
