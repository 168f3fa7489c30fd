"""Positional arguments of a command line: files whatever they are called, settings where the key is one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shards.cli.arguments import PositionalArguments
from shards.cli.command import command


@dataclass
class Listing:
    files: list[Path] = field(metadata={"example": "/my/sounds"})
    top: int = 5
    base: list[Path] | None = None


ODD = ["a b.wav", "x,y.wav", "[1].wav", 'it\'s ${HOME} "q".wav', "a=b.wav", "+x=1.wav", "~t.wav", "-n.wav", "où 録音"]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Listing]:
    """What the command was called with; the working folder holds the files of ODD."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "listing.yaml").write_text("files: ???\ntop: 5\n")
    for name in ODD:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return []


def call(called: list[Listing], monkeypatch: pytest.MonkeyPatch, *words: str) -> Listing:
    monkeypatch.setattr(sys, "argv", ["listing", *words])
    command(Listing, "listing", called.append, Path("conf").resolve(), positional="files")
    return called[-1]


def test_any_file_that_is_there_arrives_as_it_is_called(called: list[Listing], monkeypatch: pytest.MonkeyPatch) -> None:
    found = call(called, monkeypatch, *ODD[:4], "top=3", *ODD[4:])
    assert found == Listing([Path(name) for name in ODD], 3)


def test_a_key_is_a_setting_unless_it_has_a_folder_or_stands_behind_two_dashes(
    called: list[Listing], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("top=4").touch()
    assert call(called, monkeypatch, "absent.wav", "top=4") == Listing([Path("absent.wav")], 4)
    assert call(called, monkeypatch, "./top=4") == Listing([Path("./top=4")])
    assert call(called, monkeypatch, "top=2", "--", "top=4", "--help") == Listing([Path("top=4"), Path("--help")], 2)


def test_a_file_called_help_does_not_hide_the_help(
    called: list[Listing], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("--help").touch()
    with pytest.raises(IndexError):  # it runs nothing
        call(called, monkeypatch, "a.wav", "--help")
    assert capsys.readouterr().out.startswith("usage: ")
    assert call(called, monkeypatch, "./--help").files == [Path("--help")]


# But for what YAML would fill in, as in any setting.
@pytest.mark.parametrize("name", [name for name in ODD if "$" not in name])
def test_one_path_is_a_list_of_one(called: list[Listing], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    typed = (f"files=./{name}", f"base=./{name}")  # a bracket at the beginning would begin a list
    assert call(called, monkeypatch, *typed) == Listing([Path(name)], base=[Path(name)])


def test_a_list_is_a_list_and_null_is_none(called: list[Listing], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(called, monkeypatch, "files=a", "base=null").base is None
    names = ["a.wav", "b.wav", *ODD]
    assert call(called, monkeypatch, "files=[a.wav,b.wav]", *ODD) == Listing([Path(name) for name in names])


@pytest.mark.parametrize(("words", "line"), [([], "files is not given"), (["a.wav", "tip=3"], "did you mean top?")])
def test_what_is_wrong_is_one_line(
    called: list[Listing],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        call(called, monkeypatch, *words)
    (error,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line in error


def test_words_go_behind_what_the_key_gave() -> None:
    assert PositionalArguments("files", ["c"]).added_to({"files": "a", "top": 1}) == {"files": ["a", "c"], "top": 1}
    assert PositionalArguments("files", ["c"]).added_to({"files": ["a", "b"]}) == {"files": ["a", "b", "c"]}
    assert PositionalArguments("files", []).added_to({"files": "???"}) == {"files": "???"}
