"""What `--help` prints: a stage's settings with their defaults, and the files to choose from in each config group.

What a setting does is said once, in a comment behind its field in the dataclass, or above it where that is too long.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, get_args, get_origin, get_type_hints

from shards.cli.commands import program
from shards.cli.settings import REQUIRED, leaves

WIDTH = 36  # of the column `key=default`


def usage(
    settings: type, values: Mapping[str, Any], choices: Mapping[str, str], config: Path, positional: str | None
) -> str:
    """Keys of the dataclass with their composed values, and what each does."""
    lines = meanings(settings)
    required, optional = [], []
    for key, kind, default in leaves(settings):
        value = _find(values, key, default)
        if value == REQUIRED:
            required.append(_row(f"{key}=", f"{lines[key]} (required)"))
        else:
            optional.append(_row(f"{key}={_text(value)}", _with_choices(lines[key], kind)))
    refused: frozenset[str] = getattr(settings, "not_offered", frozenset())  # as `group=file`
    files = {
        group: sorted(
            path.stem for path in (config.parent / group).glob("*.yaml") if f"{group}={path.stem}" not in refused
        )
        for group in choices
    }
    lines |= {group: line for group, line in group_comments(config).items() if group not in lines}
    groups = [
        _row(f"{group}={choices[group] or 'null'}", f"{lines[group]}: {', '.join(files[group])}") for group in choices
    ]
    words = "" if positional is None else f"[{positional.upper()} ...] "
    head = [f"usage: {program()} {words}[key=value ...]", "       --multirun: run every combination of key=a,b"]
    return "\n".join([*head, "", *required, *groups, *optional])


def meanings(kind: type, prefix: str = "") -> dict[str, str]:
    """{dotted key: what it does} of every field below a dataclass; empty where no comment says it."""
    found = {}
    for name, annotation in get_type_hints(kind).items():
        owner = next(base for base in kind.__mro__ if name in vars(base).get("__annotations__", {}))
        found[f"{prefix}{name}"] = _comments(owner).get(name, "")
        if is_dataclass(annotation) and isinstance(annotation, type):
            found |= meanings(annotation, f"{prefix}{name}.")
    return found


def group_comments(config: Path) -> dict[str, str]:
    """{config group: the comment behind it in a YAML file's list of defaults}."""
    return dict(re.findall(r"^  - (\w+): .*?# (.+)$", config.read_text(), re.MULTILINE))


@cache  # asked for each field
def _comments(kind: type) -> dict[str, str]:
    """{field: the comment behind its line, else the lines of comment above it} in a class's source."""
    source = dedent(inspect.getsource(kind))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            first = field.lineno
            while (above := comments.get(first - 1)) and not above.line[: above.start[1]].strip():
                first -= 1
            places = [field.end_lineno] if field.end_lineno in comments else range(first, field.lineno)
            found[field.target.id] = " ".join(comments[place].string.removeprefix("# ") for place in places)
    return found


def _with_choices(line: str, kind: Any) -> str:
    """With the values that a Literal may have, where the line does not name them all."""
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
    named = all(re.search(rf"\b{choice}\b", line) for choice in choices)
    return line if named else f"{line} (one of {', '.join(choices)})"


def _find(values: Any, key: str, default: Any) -> Any:
    for name in key.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return default
        values = values[name]
    return values


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(value) + "}"
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)


def _row(left: str, right: str) -> str:
    return f"  {left if len(left) <= WIDTH else left[: WIDTH - 3] + '...':<{WIDTH}} {right}"
