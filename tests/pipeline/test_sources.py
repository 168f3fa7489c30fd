"""Folders and lists of videos."""

import os

import pytest

from pipeline.sources import find_videos, root_of
from shards.manifest import ContractError


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_gives_media_files_in_path_order_and_skips_hidden_and_other_ones(tmp_path):
    for name in ["b/2.MP4", "a.mkv", ".hidden.mp4", ".git/x.mp4", "notes.txt", "b/poster.jpg", "b/c/3.webm"]:
        touch(tmp_path / name, name)
    assert [(video.path, video.bytes) for video in find_videos(tmp_path)] == [
        ("a.mkv", 5),
        ("b/2.MP4", 7),
        ("b/c/3.webm", 10),
    ]


def test_links_that_go_in_circles_are_walked_once(tmp_path):
    touch(tmp_path / "a/1.mp4")
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    (tmp_path / "top").symlink_to(tmp_path)
    assert [video.path for video in find_videos(tmp_path)] == ["a/1.mp4"]


def test_what_is_no_regular_file_is_still_an_input(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert [(video.path, video.bytes) for video in find_videos(tmp_path)] == [("gone.mp4", -1), ("pipe.mp4", -1)]


def test_a_csv_and_a_text_list_count_each_line_whatever_its_suffix(tmp_path):
    touch(tmp_path / "videos" / "a b,c.bin", "abc")
    rows = 'label,path\nx,"videos/a b,c.bin"\ny,missing.mp4\ny,missing.mp4\n'
    touch(tmp_path / "list.csv", rows)
    touch(tmp_path / "list.txt", f"videos/a b,c.bin\n\n{tmp_path}/missing.mp4\n")
    expected = [("missing.mp4", -1), ("videos/a b,c.bin", 3)]
    for name in ("list.csv", "list.txt"):
        assert [(video.path, video.bytes) for video in find_videos(tmp_path / name)] == expected
        assert root_of(tmp_path / name) == tmp_path


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no-column.csv", "url\nx\n", "no column path or video"),
        ("a.mp4", "x", "neither a folder nor a .csv or .txt list"),
        ("nothing.txt", "\n", "holds no video"),
    ],
)
def test_what_cannot_be_a_source_says_so(tmp_path, name, text, message):
    touch(tmp_path / name, text)
    with pytest.raises(ContractError, match=message):
        find_videos(tmp_path / name)


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(ContractError, match="does not exist"):
        find_videos(tmp_path / "nowhere")
