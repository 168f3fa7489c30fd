"""What `--help` prints: a stage's settings with their defaults, and the files to choose from in each config group."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.cli.commands import program
from shards.cli.settings import REQUIRED, describe, leaves

WIDTH = 36  # of the column `key=default`


def usage(settings: type, values: Mapping[str, Any], choices: Mapping[str, str], config: Path) -> str:
    """Keys of the dataclass with their composed values, each with the comment that config's YAML has behind it."""
    comments = dict(re.findall(r"^(\w+):.*?\s#\s*(.+)$", config.read_text(), re.MULTILINE))
    required, optional = [], []
    for key, kind, default in leaves(settings):
        value = _find(values, key, default)
        meaning = comments.get(key, describe(kind))
        if value == REQUIRED:
            required.append(_row(f"{key}=", f"{meaning} (required)"))
        else:
            optional.append(_row(f"{key}={_text(value)}", meaning))
    files = {group: sorted(path.stem for path in (config.parent / group).glob("*.yaml")) for group in choices}
    groups = [_row(f"{group}={choices[group] or 'null'}", f"one of {', '.join(files[group])}") for group in choices]
    head = [f"usage: {program()} [key=value ...]", "       --multirun: run every combination of key=a,b"]
    lines = [*head, "", *required, *groups, *optional]
    return "\n".join(lines)


def _find(values: Any, key: str, default: Any) -> Any:
    for name in key.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return default
        values = values[name]
    return values


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(value) + "}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _row(left: str, right: str) -> str:
    return f"  {left if len(left) <= WIDTH else left[: WIDTH - 3] + '...':<{WIDTH}} {right}"
