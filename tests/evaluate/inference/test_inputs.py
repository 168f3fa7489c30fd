"""What a user may point at: files of any name, folders, lists; each sound once, in a stable order."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate.inference.inputs import find_sounds
from shards.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.wav", "a.MP4", "notes.md", ".hidden.wav", "deep/er/c.ogg", "deep/x=1, [y].flac", ".git/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_its_sounds_and_videos_sorted(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in find_sounds([folder])]
    assert found == ["a.MP4", "b.wav", "deep/er/c.ogg", "deep/x=1, [y].flac"]


def test_a_file_is_taken_whatever_it_is_called_and_once(folder: Path) -> None:
    assert find_sounds([folder / "notes.md", folder / "b.wav", folder]) == [
        folder / "notes.md",
        folder / "b.wav",
        folder / "a.MP4",
        folder / "deep/er/c.ogg",
        folder / "deep/x=1, [y].flac",
    ]


def test_two_names_of_one_place_are_one_sound(folder: Path) -> None:
    assert find_sounds([folder / "deep" / ".." / "b.wav", folder]) == [
        folder / "deep" / ".." / "b.wav",
        folder / "a.MP4",
        folder / "deep/er/c.ogg",
        folder / "deep/x=1, [y].flac",
    ]


def test_a_list_has_paths_from_its_own_folder(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"deep/x=1, [y].flac\r\n\n/elsewhere/\xff.wav\n")
    assert find_sounds([folder / "list.txt"]) == [folder / "deep/x=1, [y].flac", Path("/elsewhere/\udcff.wav")]


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file or folder .*absent\.wav"):
        find_sounds([folder / "absent.wav"])
    with pytest.raises(UserError, match=r"no sound or video in .*empty: give"):
        (folder / "empty").mkdir()
        find_sounds([folder / "empty"])


def test_a_folder_that_links_to_itself_ends(folder: Path) -> None:
    (folder / "deep" / "loop").symlink_to(folder)
    assert len(find_sounds([folder])) == 4


def test_a_list_as_windows_writes_it(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfb.wav\r\na.MP4\r\n")
    assert find_sounds([folder / "list.txt"]) == [folder / "b.wav", folder / "a.MP4"]


def test_a_list_that_is_no_text_is_refused_with_its_row(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"b.wav\n\0\0\n")
    with pytest.raises(UserError, match=r"list\.txt, row 2: UTF-16 text, or no text at all"):
        find_sounds([folder / "list.txt"])
