"""Every link between README and docs leads to a file that is there, and every make target and command named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_commands(page: str, root: Path) -> None:
    text = (root / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not ((root / page).parent / link).exists()] == []

    anchors = [link.partition("#") for link in re.findall(r"\]\(([^):]*#[^)]+)\)", text)]
    assert [
        name for file, _, name in anchors if name not in _headings((root / page).parent / file if file else root / page)
    ] == []

    shell = " ".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)) + " ".join(re.findall(r"`(make [^`]+)`", text))
    targets = set(re.findall(r"^([a-z0-9-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z0-9-]+)\b(?!=)", shell)) <= targets

    modules = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", text)) - {"pytest", "ruff"}
    assert [name for name in modules if not _is_module(root, name)] == []


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub gives its headings."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)", page.read_text(), re.M)
    }


def _is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
