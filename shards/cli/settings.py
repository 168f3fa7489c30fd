"""Settings as typed and checked: plain values, as YAML and the command line give them, become a stage's dataclass.

OmegaConf's structured configs would do this too, but they know no `Literal` and refuse every override of a frozen
dataclass, and what travels between the rooms here (ClipSpec, Reading, ...) is frozen.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

REQUIRED = "???"  # what YAML writes, and `leaves` gives, for a value that only the user can give

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class SettingsError(Exception):
    """A key that does not exist, a value of the wrong type, or one not given. The message names the key."""


def build(kind: Any, value: Any, key: str = "") -> Any:
    """`value` (dicts, lists and scalars) as `kind`: a dataclass, or any annotation of its fields.

    Raises SettingsError; the ValueError of a dataclass's own `__post_init__` passes through.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _build_union(parts, value, key)
    if is_dataclass(kind) and isinstance(value, dict):
        return _build_dataclass(kind, value, key)
    if origin is Literal and value in parts:
        return value
    if origin is dict and isinstance(value, dict):
        return {str(name): build(parts[1], item, _join(key, name)) for name, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return origin(build(parts[0], item, f"{key}[{index}]") for index, item in enumerate(value))
    if is_paths(kind) and isinstance(value, str):
        return [build(Path, value, key)]
    if kind is Path and isinstance(value, str) and URL.match(value):  # else a folder called `s3:` would be made
        raise SettingsError(f"{key}={value} is a URL, and {key} a path on this machine")
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser() if value.startswith("~/") else Path(value)
    if kind is str and key.endswith("]") and type(value) is int:
        return str(value)  # folds=[1]: in a list, typed words are parsed before their kind is known
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind in (int, float) and _is_number(value, whole=kind is int):
        return kind(value)
    _refuse(kind, value, key)


def kind_of(kind: Any, key: str) -> Any:
    """The annotation behind a dotted key. Raises SettingsError, naming the nearest key, where it leads nowhere."""
    before = ""
    for name in key.split("."):
        kind = _without_none(kind)
        if is_dataclass(kind):
            known = get_type_hints(kind)
            if name not in known:
                below = " or ".join(_named(kind, name, before))
                meant = f"{key} is unknown: did you mean {below}?"
                raise SettingsError(meant if below else unknown(key, [_join(before, other) for other in known]))
            kind = known[name]
        elif get_origin(kind) in (list, tuple) and not name.isdecimal():
            raise SettingsError(f"{key} is unknown: {before} is {describe(kind)}, as {before}=[...]")
        elif get_origin(kind) in (dict, list, tuple):
            kind = _items(kind)
        else:
            raise SettingsError(f"{key} is unknown: {before} is a single value, {describe(kind)}")
        before = _join(before, name)
    return kind


def is_named(kind: Any, key: str) -> bool:
    """Whether a dotted key may be set where the YAML file does not name it: a dataclass names it, or it is a name in a
    mapping to plain values. An entry of a list, or a dataclass of a mapping, has to be there."""
    parents = key.split(".")[:-1]
    kinds = [_without_none(kind_of(kind, ".".join(parents[: end + 1]))) for end in range(len(parents))]
    return all(is_dataclass(each) or (get_origin(each) is dict and not is_dataclass(_items(each))) for each in kinds)


def is_text(kind: Any) -> bool:
    """Whether a value of this kind is taken as it stands, letter by letter."""
    return _without_none(kind) in (str, Path)


def is_paths(kind: Any) -> bool:
    """Whether a list of paths is wanted; one path, letter by letter, is a list of one."""
    return bool(_without_none(kind) == list[Path])


def leaves(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, annotation, default or `???`) of every value below a dataclass, in order."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        key, annotation = _join(prefix, item.name), hints[item.name]
        if is_dataclass(annotation):
            yield from leaves(annotation, key)
        else:
            yield key, annotation, _default(item)


def unknown(key: str, known: Iterable[str]) -> str:
    """The line for a key or choice that does not exist: with the nearest that does, or else with all of them."""
    choices = list(known)
    near = difflib.get_close_matches(key, choices, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}" if choices else "there are none"
    return f"{key} is unknown: {hint}"


def describe(kind: Any) -> str:
    """An annotation in words, for error lines and `--help`."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else describe(part) for part in parts)
    if origin in (list, tuple):
        return f"a list [...] with {describe(parts[0])} each"
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    return words.get(kind, "a mapping {key: value, ...}")


def _build_dataclass(kind: Any, value: dict[Any, Any], key: str) -> Any:
    hints = get_type_hints(kind)
    for name in map(str, value):
        if name not in hints:
            raise SettingsError(unknown(_join(key, name), [_join(key, other) for other in hints]))
    arguments = {name: build(hints[name], item, _join(key, name)) for name, item in value.items() if item != REQUIRED}
    asked = [
        _ask_for(item, hints[item.name], _join(key, item.name))
        for item in fields(kind)
        if item.name not in arguments and (_default(item) == REQUIRED or value.get(item.name) == REQUIRED)
    ]
    if asked:
        raise SettingsError("; ".join(asked))
    return kind(**arguments)


def _build_union(kinds: tuple[Any, ...], value: Any, key: str) -> Any:
    candidates = [kind for kind in kinds if kind is not type(None)]
    if value is None and len(candidates) < len(kinds):
        return None
    for kind in candidates[:-1]:
        try:
            return build(kind, value, key)
        except SettingsError:
            continue
    return build(candidates[-1], value, key)


def _is_number(value: Any, *, whole: bool) -> bool:
    """1e5 is a whole number too; true, nan and inf are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return value.is_integer() if whole else math.isfinite(value)


def _refuse(kind: Any, value: Any, key: str) -> NoReturn:
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    raise SettingsError(f"{key}={shown} does not fit: {key} is {describe(kind)}")


def _ask_for(item: Field[Any], kind: Any, key: str) -> str:
    example = item.metadata.get("example", {Path: f"/path/to/{item.name}", int: "1", float: "1.0"}.get(kind, "..."))
    return f"{key} is not given: say {key}=... ({describe(kind)}), for example {key}={example}"


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return REQUIRED if item.default is MISSING else item.default


def _without_none(kind: Any) -> Any:
    rest = [part for part in get_args(kind) if part is not type(None)]
    return rest[0] if get_origin(kind) in (Union, types.UnionType) and len(rest) == 1 else kind


def _named(kind: Any, name: str, before: str) -> Iterator[str]:
    """Dotted keys below a dataclass that end in `name`; <name> stands for that of an entry of a mapping."""
    for field, annotation in get_type_hints(kind).items():
        inner, key = _without_none(annotation), _join(before, field)
        if field == name:
            yield key
        if get_origin(inner) is dict:
            inner, key = _items(inner), f"{key}.<name>"
        if is_dataclass(inner):
            yield from _named(inner, name, key)


def _items(kind: Any) -> Any:
    """What a mapping, or a list, holds."""
    return _without_none(get_args(kind)[1 if get_origin(kind) is dict else 0])


def _join(*names: object) -> str:
    return ".".join(str(name) for name in names if name != "")
