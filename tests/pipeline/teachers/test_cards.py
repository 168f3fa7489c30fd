"""Class lists as users and the Places release write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.teachers.cards import imagenet_classes, read_classes
from shards.errors import UserError


def listed(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("/a/airfield 0\n/a/airplane_cabin 1\n", ("/a/airfield", "/a/airplane_cabin")),
        ("\ufeffcat\r\ndog house\r\n\r\n", ("cat", "dog house")),
        ("boeing 747\nairbus\n", ("boeing 747", "airbus")),  # a number belongs to the name unless all lines have one
        ("class 0\nclass 1\n", ("class 0", "class 1")),
        ("forêt\n", ("forêt",)),
    ],
)
def test_a_list_holds_a_name_a_line(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    assert read_classes(listed(tmp_path, text)) == names


def test_the_places_list_is_read(tmp_path: Path, shared: Path) -> None:
    names = (shared / "reference" / "labels" / "places365.txt").read_text().split()
    numbered = "".join(f"{name} {number}\n" for number, name in enumerate(names))  # as in categories_places365.txt
    assert read_classes(listed(tmp_path, numbered)) == tuple(names)
    assert len(names) == 365


def test_indices_in_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list\.txt, line 2: 'dog' has index 2 at place 1"):
        read_classes(listed(tmp_path, "cat 0\ndog 2\nhen 1\n"))


def test_an_empty_list_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is empty"):
        read_classes(listed(tmp_path, "\n\n"))
    (tmp_path / "binary.txt").write_bytes(b"\x80\x81\xff")
    with pytest.raises(UserError, match="is not a list of class names"):
        read_classes(tmp_path / "binary.txt")


def test_imagenet_has_its_known_order() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    assert {
        0: "tench",
        281: "tabby",
        285: "Egyptian cat",
        657: "missile",
        967: "espresso",
        985: "daisy",
    }.items() <= dict(enumerate(names)).items()
