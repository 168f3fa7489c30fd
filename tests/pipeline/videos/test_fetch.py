"""A video behind a URL becomes a local file, or a reason why not."""

import hashlib
import http.server
import os
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.videos.fetch import at_hand, within_reach
from shards.files import sha256_of
from shards.media.rejects import UnreadableMedia
from shards.storage import address

DATA = bytes(range(256)) * 10_000


class FailingFileSystem(MemoryFileSystem):
    """Breaks off in the middle of a file, as often as it is told."""

    protocol = "failing"
    failures = 0
    opened = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("failing:/"))

    def _open(self, path, mode="rb", **options):
        stream = super()._open(path, mode, **options)
        FailingFileSystem.opened += 1
        if FailingFileSystem.opened <= FailingFileSystem.failures:
            read = stream.read

            def broken(count):
                if stream.tell():
                    raise ConnectionResetError("reset by peer")
                return read(count)

            return Broken(broken)
        return stream


class Broken:
    def __init__(self, read):
        self.read = read

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def failing(monkeypatch):
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    FailingFileSystem.opened = 0
    fsspec.filesystem("memory").pipe_file("/fetch/a.mp4", DATA)
    yield lambda failures: setattr(FailingFileSystem, "failures", failures)
    fsspec.filesystem("memory").rm("/fetch", recursive=True)


def fetch(place, folder, max_bytes=1e9):
    touched = []
    with at_hand(place, folder / "000000007", lambda: touched.append(1), max_bytes) as video:
        assert hashlib.sha256(video.path.read_bytes()).hexdigest() == video.sha256
        return video, video.path.read_bytes(), len(touched)


@pytest.mark.parametrize("failures", [0, 2])
def test_a_url_is_read_whole_in_up_to_three_tries_and_its_copy_goes_away(failing, tmp_path, failures):
    failing(failures)
    video, data, touched = fetch("failing://fetch/a.mp4", tmp_path)
    assert (data, video.bytes, video.path.suffix) == (DATA, len(DATA), ".mp4")
    assert touched >= 3 and list(tmp_path.iterdir()) == []


def test_what_stays_out_of_reach_is_named_and_leaves_nothing(failing, tmp_path):
    failing(3)
    with pytest.raises(UnreadableMedia, match=r"unreachable: ConnectionResetError: reset by peer \(3 tries\)"):
        fetch("failing://fetch/a.mp4", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("memory://fetch/none.mp4", "not_found: there is no such file"),
        ("memory://fetch", "not_a_file: it is a folder|not_found"),
        ("gopher://fetch/a.mp4", "unreachable: .*Protocol not known: gopher"),
        ("failing://fetch/a.mp4", r"too_large: it has more than reading\.max_gigabytes=0\.001"),
    ],
)
def test_a_reason_for_each_fault(failing, tmp_path, place, message):
    failing(0)
    with pytest.raises(UnreadableMedia, match=message):
        fetch(place, tmp_path, max_bytes=1e6)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_here_is_no_fault_of_the_video(failing, tmp_path):
    (tmp_path / "000000007.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        fetch("memory://fetch/a.mp4", tmp_path)


def test_a_local_file_is_read_where_it_is(tmp_path):
    (tmp_path / "a.mp4").write_bytes(DATA)
    video, data, _ = fetch(str(tmp_path / "a.mp4"), tmp_path)
    assert (video.path, data) == (tmp_path / "a.mp4", DATA)
    with at_hand(str(tmp_path), tmp_path / "0", int, 1e9) as nothing:
        assert (nothing.bytes, nothing.sha256) == (-1, "")


def test_what_is_in_this_process_alone_is_copied_for_the_others(failing, tmp_path):
    root = within_reach("memory://fetch", tmp_path)
    assert Path(address(root, "a.mp4")).read_bytes() == DATA
    assert within_reach("file:///videos", tmp_path) == "file:///videos"
    assert within_reach("/videos", tmp_path) == "/videos"


def test_over_http_what_is_missing_is_no_video_and_what_is_there_comes_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between three tries
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp, which is not installed")
    (tmp_path / "clip one.mp4").write_bytes(DATA)
    handler = lambda *args: Quiet(*args, directory=str(tmp_path))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "spool").mkdir()
        assert fetch(f"{site}/clip%20one.mp4?token=1", tmp_path / "spool")[1] == DATA
        with pytest.raises(UnreadableMedia, match="not_found"):
            fetch(f"{site}/none.mp4", tmp_path / "spool")
        with pytest.raises(UnreadableMedia, match=r"unreachable: .*ClientResponseError: 500"):
            fetch(f"{site}/broken.mp4", tmp_path / "spool")
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send_head(self):
        if self.path == "/broken.mp4":
            self.send_error(500)
            return None
        return super().send_head()


def test_a_file_is_hashed_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    """As the segments of a film ask for it, one after the other."""
    path, read = tmp_path / "a.mp4", []
    monkeypatch.setattr(
        "pipeline.videos.fetch.sha256_of", lambda path, touch: read.append(path) or sha256_of(path, touch)
    )
    for content in (DATA, DATA, DATA[::-1]):
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            os.utime(path, ns=(len(read), len(read)))
        for _ in range(2):
            with at_hand(str(path), tmp_path / "spool", touch, 1e9) as video:
                assert video.sha256 == hashlib.sha256(content).hexdigest()
    assert len(read) == 2


def touch() -> None:
    """One and the same for all videos of a decoder."""
