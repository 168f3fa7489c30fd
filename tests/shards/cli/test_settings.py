"""Plain values become a dataclass or are refused: each kind of annotation, once fitting and once not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from shards.cli.settings import REQUIRED, SettingsError, build, is_named, is_text, kind_of, leaves


@dataclass(frozen=True)
class Inner:
    size: int
    names: tuple[str, ...] = ()


@dataclass
class Outer:
    path: Path
    inner: Inner = field(default_factory=lambda: Inner(3))
    table: dict[str, list[Inner]] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)
    inners: dict[str, Inner | None] = field(default_factory=dict)
    example: str = field(default=REQUIRED, metadata={"example": "like this"})


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (float, 1, 1.0),
        (int, 1e5, 100_000),
        (float | str, "fast", "fast"),
        (int | float, 1.5, 1.5),
        (str | None, None, None),
        (list[int], [1, 2.0], [1, 2]),
        (list[str], [1, "b"], ["1", "b"]),
        (tuple[float, ...], [1, 2], (1.0, 2.0)),
        (list[list[str]], [["a"], []], [["a"], []]),
        (dict[str, int | None], {"a": 1, "b": None}, {"a": 1, "b": None}),
        (Literal["a", 2], 2, 2),
        (Path, "~/x", Path.home() / "x"),
        (Path, "a~/x", Path("a~/x")),
        (Inner | None, {"size": 1, "names": ["a"]}, Inner(1, ("a",))),
    ],
)
def test_a_value_that_fits(kind: Any, value: Any, expected: Any) -> None:
    built = build(kind, value, "key")
    assert built == expected and type(built) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        (int, True, "key=true does not fit: key is a whole number"),
        (Path | None, "s3://lake/spool", "key=s3://lake/spool is a URL, and key a path on this machine"),
        (int, float("inf"), "key=Infinity does not fit"),
        (int, float("nan"), "key=NaN does not fit"),
        (float, "1", "key=1 does not fit: key is a number"),
        (bool, 0, "key=0 does not fit: key is true or false"),
        (str, 1, "key=1 does not fit: key is text"),
        (str, None, "key=null does not fit: key is text"),
        (Path, "", "key= does not fit: key is a path"),
        (list[int], 3, "key=3 does not fit: key is a list"),
        (list[str], [1.5], "key[0]=1.5 does not fit: key[0] is text"),
        (list[int], [1, "x"], "key[1]=x does not fit: key[1] is a whole number"),
        (dict[str, int], {"a": "x"}, "key.a=x does not fit: key.a is a whole number"),
        (float, math.nan, "key=NaN does not fit: key is a number"),
        (float, math.inf, "key=Infinity does not fit: key is a number"),
        (int, math.inf, "key=Infinity does not fit: key is a whole number"),
        (Literal["a", "b"], "c", "key=c does not fit: key is one of a, b"),
        (int | None, "x", "key=x does not fit"),
        (Inner, {"size": 1, "nams": []}, "key.nams is unknown: did you mean key.names?"),
        (Inner, {7: 1}, "key.7 is unknown"),
        (Inner, {}, "key.size is not given"),
        (Inner, {"size": REQUIRED}, "key.size is not given"),
        (Inner, [1], "key=[1] does not fit: key is a mapping"),
    ],
)
def test_a_value_that_does_not_fit(kind: Any, value: Any, line: str) -> None:
    with pytest.raises(SettingsError) as error:
        build(kind, value, "key")
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_everything_missing_is_asked_for_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        build(Outer, {"inner": {"size": 1}})
    assert str(error.value) == (
        "path is not given: say path=... (a path), for example path=/path/to/path; "
        "example is not given: say example=... (text), for example example=like this"
    )


def test_what_may_be_set_where_the_yaml_file_does_not_name_it() -> None:
    assert is_named(Outer, "inner.size") and is_named(Outer, "plain.any") and is_named(Outer, "table.any")
    assert not is_named(Outer, "table.any.0") and not is_named(Outer, "inners.any")


def test_a_key_leads_to_its_annotation() -> None:
    assert kind_of(Outer, "inner.size") is int and kind_of(Outer, "table.any.0.names") == tuple[str, ...]
    assert is_text(kind_of(Outer, "path"))
    with pytest.raises(SettingsError, match=r"inner\.siz is unknown: did you mean inner\.size\?"):
        kind_of(Outer, "inner.siz")
    with pytest.raises(SettingsError, match=r"names is unknown: did you mean inner\.names or inners\.<name>\.names\?"):
        kind_of(Outer, "names")


def test_leaves_are_the_values_below() -> None:
    assert [(key, default) for key, _, default in leaves(Outer)] == [
        ("path", REQUIRED),
        ("inner.size", REQUIRED),
        ("inner.names", ()),
        ("table", {}),
        ("plain", {}),
        ("inners", {}),
        ("example", REQUIRED),
    ]
