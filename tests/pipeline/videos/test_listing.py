"""Folders and lists of videos."""

import math
import os
import zipfile
from fractions import Fraction

import av
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.videos.listing import MOST_SUFFIXES, counted, find_videos, require_protocols, root_of
from shards.errors import UserError
from shards.media.file import MediaFile
from shards.storage import address, open_place


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(videos):
    listing = find_videos(str(videos))
    return [(video.path, video.bytes) for video in map(listing.video, listing.inputs)]


def test_a_folder_gives_media_files_in_path_order_and_skips_hidden_and_other_ones(tmp_path):
    for name in ["b/2.MP4", "a.mkv", ".hidden.mp4", ".git/x.mp4", "notes.txt", "b/poster.jpg", "b/c/3.webm"]:
        touch(tmp_path / name, name)
    assert found(tmp_path) == [
        ("a.mkv", 5),
        ("b/2.MP4", 7),
        ("b/c/3.webm", 10),
    ]


def test_what_a_folder_holds_and_is_not_taken_is_counted_by_suffix(tmp_path):
    names = ["a.mp4", "b.MOD", "c.m2t", "1.jpg", "2.JPG", "d.mp4.part", "README", "x/y.crdownload", "x/z", ".a.mp4"]
    for name in [*names, ".git/x.mp4", "x/.hidden/y.jpg", "odd.\n"]:
        touch(tmp_path / name)
    expected = {"hidden": 3, "": 2, ".jpg": 2, ".\n": 1, ".crdownload": 1, ".part": 1}
    listing = find_videos(str(tmp_path))
    assert list(listing.paths) == ["a.mp4", "b.MOD", "c.m2t"]
    assert list(listing.not_taken.items()) == list(expected.items())
    text = r"3 hidden, 2 without suffix, 2 .jpg, 1 .\n, 1 .crdownload, 1 .part"
    assert counted(listing.not_taken) == text
    assert find_videos(f"file://{tmp_path}").not_taken == expected
    touch(tmp_path / "list.txt", "a.mp4\n")
    assert find_videos(str(tmp_path / "list.txt")).not_taken == {}
    for name in ("a.mp4", "b.MOD", "c.m2t"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"\.y4m, and found 3 hidden, 2 without suffix"):
        find_videos(str(tmp_path))


def test_numbered_files_are_no_thousand_suffixes(tmp_path):
    touch(tmp_path / "a.mp4")
    for number in range(100):
        touch(tmp_path / f"frame.{number:04d}")
    counts = find_videos(str(tmp_path)).not_taken
    assert len(counts) == MOST_SUFFIXES + 1 and sum(counts.values()) == 100


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    """Root may read everything, so that the system's answer is given in its place."""
    touch(tmp_path / "a.mp4")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert find_videos(str(tmp_path)).not_taken == {"unreadable folders": 1}


@pytest.mark.parametrize(
    ("suffix", "muxer"),
    [
        *((".m2t", "mpegts"), (".tod", "mpegts"), (".trp", "mpegts"), (".mod", "vob"), (".m2p", "mpeg")),
        *((".3gpp", "3gp"), (".ogx", "ogg"), (".mk3d", "matroska"), (".dvr-ms", "asf"), (".nut", "nut")),
    ],
)
def test_what_people_call_a_video_is_taken_and_read(tmp_path, suffix, muxer):
    """Three seconds of a grey picture and of silence, in the container that this suffix is used for."""
    place = tmp_path / f"a{suffix}"
    codecs = {"mpeg": ("mpeg1video", "mp2"), "vob": ("mpeg2video", "mp2"), "ogg": ("libvpx", "libopus")}
    render(place, muxer, *codecs.get(muxer, ("mpeg4", "aac")))
    assert list(find_videos(str(tmp_path)).paths) == [place.name]
    with MediaFile(place) as media:
        assert (media.video_stream().codec_context.width, len(media.audio_streams())) == (64, 1)


def render(place, muxer, picture, sound):
    with av.open(str(place), "w", format=muxer) as container:
        video, audio = container.add_stream(picture, 25), container.add_stream(sound, 48_000, layout="stereo")
        video.width, video.height, video.pix_fmt, video.codec_context.thread_count = 64, 48, "yuv420p", 1
        for index in range(75):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 127, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 48_000 * 3), np.float32), "fltp", "stereo")
        silence.sample_rate, silence.pts = 48_000, 0
        container.mux([*audio.encode(silence), *audio.encode(None), *video.encode(None)])


def test_links_that_go_in_circles_are_walked_once(tmp_path):
    touch(tmp_path / "a/1.mp4")
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    (tmp_path / "top").symlink_to(tmp_path)
    assert found(tmp_path) == [("a/1.mp4", 1)]


def test_what_is_no_regular_file_is_still_an_input(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path) == [("gone.mp4", -1), ("pipe.mp4", -1)]


def test_a_csv_and_a_text_list_count_each_line_whatever_its_suffix(tmp_path):
    touch(tmp_path / "videos" / "a b,c.bin", "abc")
    rows = 'label,path\nx,"videos/a b,c.bin"\ny,missing.mp4\ny,missing.mp4\n'
    touch(tmp_path / "list.csv", rows)
    touch(tmp_path / "list.txt", f"videos/a b,c.bin\n\n{tmp_path}/missing.mp4\n")
    expected = [("missing.mp4", -1), ("videos/a b,c.bin", 3)]
    for name in ("list.csv", "list.txt"):
        assert found(tmp_path / name) == expected
        assert root_of(str(tmp_path / name)) == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no-column.csv", "link\nx\n", "no column path or url"),
        ("a.mp4", "x", "neither a folder nor a .csv, .tsv or .txt list"),
        ("nothing.txt", "\n", "holds no video"),
    ],
)
def test_what_cannot_be_a_source_says_so(tmp_path, name, text, message):
    touch(tmp_path / name, text)
    with pytest.raises(UserError, match=message):
        find_videos(str(tmp_path / name))


def videos_of(path):
    listing = find_videos(str(path))
    return [listing.video(text) for text in listing.inputs]


def test_rows_with_segments_groups_and_more(tmp_path):
    rows = 'path,start,end,label,group\n b.mp4,,,dog,g\na.mp4,10,20.5,"cat, small",\na.mp4,30.0,,,\n./a.mp4,,5,ü,h\n'
    touch(tmp_path / "list.csv", rows + 'a.mp4,10.0,20.50,"cat, small",\n')  # a row again, in other words
    assert [(v.path, v.start, v.end, v.group, v.given, v.key) for v in videos_of(tmp_path / "list.csv")] == [
        (" b.mp4", 0.0, math.inf, "g", {"label": "dog"}, "%20b%2Emp4"),
        ("a.mp4", 0.0, 5.0, "h", {"label": "ü"}, "a%2Emp4+0+5"),
        ("a.mp4", 10.0, 20.5, "", {"label": "cat, small"}, "a%2Emp4+10+20%2E5"),
        ("a.mp4", 30.0, math.inf, "", {"label": ""}, "a%2Emp4+30+"),
    ]


def test_a_list_of_segments_alone_keeps_whole_files_as_they_are(tmp_path):
    touch(tmp_path / "list.csv", "path,start,end\na.mp4,,\nb.mp4,0,\nc.mp4,1,2\n")
    assert [(v.key, v.given) for v in videos_of(tmp_path / "list.csv")] == [
        ("a%2Emp4", {}),
        ("b%2Emp4", {}),
        ("c%2Emp4+1+2", {}),
    ]


FAULTS = [("5", "5"), ("6", "5"), ("x", ""), ("", "x"), ("-1", "5"), ("nan", "5"), ("1", "nan"), ("", "0")]
FAULTS += [("1,5", "2,5"), ("0:10", "0:20"), ("inf", ""), ("", "inf"), ("", "-5")]


@pytest.mark.parametrize(("start", "end"), FAULTS)
def test_what_is_no_segment_is_refused_with_its_row(tmp_path, start, end):
    touch(tmp_path / "list.csv", f'path,start,end\na.mp4,1,2\nb.mp4,"{start}","{end}"\n')
    with pytest.raises(UserError, match=r"list\.csv, row 3: start='.*' and end='.*' must be seconds"):
        find_videos(str(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"path,label\na.mp4,x\n,y\n", "row 3: it has no path"),
        (b"path,label\na.mp4,\xfcber\n", r"row 2: '\\udcfcber' is not UTF-8"),
        (b"path,\xfc\na.mp4,x\n", r"row 2: '\\udcfc' is not UTF-8"),
        (
            b"path,label\na.mp4,x\nb.mp4,x\n./a.mp4,y\n",
            "two rows of 'a.mp4' differ, .*'x'.* and .*'y'",
        ),
        (b"path\n\n", r"holds no video \(the list is empty\)"),
        (b"path\na.mp4\n\0\n", "row 3: UTF-16 text, or no text"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_line(tmp_path, data, message):
    (tmp_path / "list.csv").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        find_videos(str(tmp_path / "list.csv"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_that_is_no_utf8_is_a_name(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbfpath;label\n\xfc.mp4;x\n")
    assert [(v.path, v.given) for v in videos_of(tmp_path / "list.csv")] == [("\udcfc.mp4", {"label": "x"})]


def test_a_folder_that_is_called_like_a_list_is_a_folder(tmp_path):
    touch(tmp_path / "videos.csv" / "a.mp4")
    assert [video.path for video in videos_of(tmp_path / "videos.csv")] == ["a.mp4"]
    (tmp_path / "empty.csv").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        find_videos(str(tmp_path / "empty.csv"))


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_videos(str(tmp_path / "nowhere"))


@pytest.fixture(params=["memory", "file", "zip"])
def behind(request, tmp_path):
    """A folder of videos and lists behind a URL, and the URL of one more file."""
    contents = {
        "clips/b/2.MP4": "12345",
        "clips/a.mkv": "123",
        "clips/.hidden.mp4": "x",
        "clips/.git/x.mp4": "x",
        "clips/notes.txt": "a.mkv\n\nmemory://elsewhere/c.mp4\nb/./2.MP4\n",
        "clips/list.csv": "label,url\nx,memory://elsewhere/c.mp4\ny,../up.mp4\n",
        "clips/none.csv": "label\nx\n",
    }
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
            for name, text in contents.items():
                archive.writestr(name, text)
        yield lambda name: f"zip://{name}::file://{tmp_path}/corpus.zip"
        return
    root = f"/sources-{tmp_path.name}" if request.param == "memory" else str(tmp_path)
    system = fsspec.filesystem(request.param)
    for name, text in contents.items():
        system.pipe_file(f"{root}/{name}", text.encode()) if request.param == "memory" else touch(tmp_path / name, text)
    yield lambda name: f"{request.param}://{root.removeprefix('/') if request.param == 'memory' else root}/{name}"
    if request.param == "memory":
        system.rm(root, recursive=True)


def test_a_folder_behind_a_url_is_walked_with_its_sizes(behind):
    assert found(behind("clips")) == found(behind("clips/")) == [("a.mkv", 3), ("b/2.MP4", 5)]
    with open_place(address(behind("clips"), "b/2.MP4")) as stream:
        assert stream.read() == b"12345"


def test_a_list_behind_a_url_holds_paths_beside_it_and_urls(behind):
    """Their sizes are not asked for."""
    assert found(behind("clips/notes.txt")) == [("a.mkv", -1), ("b/2.MP4", -1), ("memory://elsewhere/c.mp4", -1)]
    assert found(behind("clips/list.csv")) == [("../up.mp4", -1), ("memory://elsewhere/c.mp4", -1)]
    with open_place(address(root_of(behind("clips/notes.txt")), "a.mkv")) as stream:
        assert stream.read() == b"123"


def test_a_local_list_may_hold_urls(tmp_path):
    touch(tmp_path / "a.mp4", "abc")
    touch(tmp_path / "list.txt", "a.mp4\nhttps://example.org/clip.mp4?token=1\n")
    assert found(tmp_path / "list.txt") == [("a.mp4", 3), ("https://example.org/clip.mp4?token=1", -1)]


def test_what_is_no_source_behind_a_url_says_so(behind):
    for name, message in [("nowhere", "does not exist"), ("clips/a.mkv", "neither"), ("clips/none.csv", "no column")]:
        with pytest.raises(UserError, match=message):
            find_videos(behind(name))


def test_a_protocol_that_is_not_known_or_not_installed_says_so():
    for videos, message in [("gopher://x/", "Protocol not known: gopher"), ("oci://bucket/x", "ocifs")]:
        with pytest.raises(UserError, match=message):
            find_videos(videos)


def test_rows_that_nothing_here_can_open_stop_the_run_before_it_begins(tmp_path):
    touch(tmp_path / "list.txt", "a.mp4\nmemory://x/b.mp4\n")
    require_protocols(find_videos(str(tmp_path / "list.txt")))
    touch(tmp_path / "list.txt", "a.mp4\nmemory://x/b.mp4\noci://x/c.mp4\n")
    with pytest.raises(UserError, match=r"oci://x/c\.mp4 cannot be opened: .*ocifs"):
        require_protocols(find_videos(str(tmp_path / "list.txt")))


class ClosedFileSystem(MemoryFileSystem):
    """One folder in it cannot be listed."""

    protocol = "closed"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("closed:/"))

    def ls(self, path, **options):
        if path.endswith("/shut"):
            raise ConnectionResetError("reset by peer")
        return super().ls(path, **options)


def test_a_folder_behind_a_url_that_cannot_be_listed_ends_the_run_and_is_not_passed_over(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between three tries
    fsspec.register_implementation("closed", ClosedFileSystem, clobber=True)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/closed/open/a.mp4", b"a")
    memory.pipe_file("/closed/shut/b.mp4", b"b")
    with pytest.raises(UserError, match="videos=closed://closed cannot be reached: ConnectionResetError"):
        find_videos("closed://closed")
    memory.rm("/closed", recursive=True)
