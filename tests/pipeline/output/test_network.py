"""Both stages from and to s3 and http, by the real clients, with errors, resets, cut and slow answers thrown in."""

from __future__ import annotations

import http.server
import itertools
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.executor import decode_worker
from pipeline.output.status import status_of
from pipeline.relabel.run import RelabelSettings
from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.videos.plan import Size
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.shard import examples
from shards.format.sidefile import side_files
from tests.faults.commands import finish, start, state, training
from tests.pipeline.conftest import tars
from tests.pipeline.output.network import disturbing

pytestmark = pytest.mark.faults
RATE = 1_000  # as the student of `training` wants it
FAULTS = ("503", "reset", "cut", "slow", "500")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Weather:
    """Every third request for data is disturbed, or all of those that `storm` names by a part of their path."""

    storm: str = "\0"

    def __post_init__(self) -> None:
        self._turn, self._kind = itertools.count(1), itertools.cycle(FAULTS)

    def __call__(self, method: str, path: str) -> str:
        if self.storm in path:
            return "503"
        if method not in ("GET", "PUT") or next(self._turn) % 3:
            return "pass"
        fault = next(self._kind)
        return "reset" if method == "PUT" and fault == "cut" else fault


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, render_video: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        render_video(folder / f"{number}.mp4", 4.0, seed=number)
    (folder / "broken.mp4").write_text("<html>")
    return folder


@pytest.fixture(scope="module")
def settings(settings: Callable[..., Any]) -> Callable[..., Any]:
    small = {"decoders": 1, "shard_size": Size(videos=2), "clip": ClipSpec(sample_rate=RATE, seconds=2.0, windows=4)}
    return lambda shards, **fields: settings(shards, **small | fields)


@pytest.fixture(scope="module")
def alone(settings: Callable[..., Any], videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made of the videos on a disk: shards, labels of another set, and a run of stage two."""
    folder = tmp_path_factory.mktemp("alone")
    values = settings(folder / "shards")
    run(values)
    again(values)
    finish(start("train", *training(folder / "shards", folder / "run")))
    return folder


def again(values: Any, **places: object) -> None:
    same = {"device": "cpu", "precision": "float32", "decoders": 1, "batch_clips": 2, "teacher_processes": 1}
    places = {"videos": values.videos, "shards": values.shards} | places
    relabel(RelabelSettings(**places, **same, teachers=replace(values.teachers, name="again")))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Weather]:
    """A server of s3 in bad weather; s3:// leads there."""
    pytest.importorskip("s3fs", reason="s3:// is opened by s3fs, which is not installed")
    server = pytest.importorskip("moto.server", reason="the server is moto's, which is not installed")
    moto, weather = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False), Weather()
    moto.start()
    with disturbing(moto.get_host_and_port()[1], weather) as (address, seen):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        # A forked worker would have the surroundings of its server.
        monkeypatch.setattr(decode_worker, "SPAWN", multiprocessing.get_context("spawn"))
        fsspec.filesystem("s3", skip_instance_cache=True).makedirs(
            "lake", exist_ok=True
        )  # moto keeps it from test to test
        yield weather
    assert all(seen[fault] for fault in FAULTS) or weather.storm != "\0"
    moto.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def test_from_s3_to_s3_relabelled_and_trained_the_bytes_are_those_of_a_disk(
    s3: Weather, settings: Callable[..., Any], videos: Path, alone: Path, tmp_path: Path
) -> None:
    lake = fsspec.filesystem("s3")
    lake.put(f"{videos}/", "lake/videos/", recursive=True)
    values = settings("s3://lake/shards", videos="s3://lake/videos", work=tmp_path / "work")
    run(values)
    again(values, work=tmp_path / "another machine")
    lake.invalidate_cache()
    lake.get("lake/shards/", f"{tmp_path}/copy/", recursive=True)
    assert tars(tmp_path / "copy") == tars(alone / "shards")
    assert tars(tmp_path / "copy/teachers/again") == tars(alone / "shards/teachers/again")
    assert [side.shard for side in side_files(tmp_path / "copy")] == [
        side.shard for side in side_files(alone / "shards")
    ]
    status = status_of("s3://lake/shards")
    assert (status.inputs, status.accepted, status.rejected, status.left) == (5, 4, 1, 0)
    assert status.labels == {"again": status_of(str(alone / "shards")).labels["again"]}
    finish(start("train", *training("s3://lake/shards", tmp_path / "run")))
    assert state(tmp_path / "run") == state(alone / "run")


def test_what_s3_does_not_give_is_a_reject_or_one_line(
    s3: Weather, settings: Callable[..., Any], videos: Path, tmp_path: Path
) -> None:
    lake = fsspec.filesystem("s3")
    lake.put(f"{videos}/", "lake/videos/", recursive=True)
    values = settings(tmp_path / "shards", videos="s3://lake/videos", max_reject_share=0.9)
    s3.storm = "2.mp4"
    run(values)
    status = status_of(str(tmp_path / "shards"))
    assert status.reasons == {"unreachable": 1, "not_media": 1} and status.accepted == 3
    s3.storm = "lake"
    with pytest.raises(UserError, match=r"s3://lake/out.* cannot be reached|s3://lake/out: it cannot be listed"):
        run(settings("s3://lake/out", work=tmp_path / "work"))


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and its address on a web server in bad weather."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp, which is not installed")
    folder = tmp_path_factory.mktemp("site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with disturbing(server.server_port, Weather()) as (address, _):
            yield folder, address
        server.shutdown()


def test_videos_and_shards_behind_http_are_those_of_a_disk(
    site: tuple[Path, str], settings: Callable[..., Any], videos: Path, alone: Path, tmp_path: Path
) -> None:
    folder, address = site
    (folder / "videos").symlink_to(videos)
    (folder / "shards").symlink_to(alone / "shards")
    (tmp_path / "list.txt").write_text("".join(f"{address}/videos/{number}.mp4\n" for number in range(4)))
    run(settings(tmp_path / "shards", videos=str(tmp_path / "list.txt"), validation_share=0.0))
    assert sounds(tmp_path / "shards") == sounds(alone / "shards")
    finish(start("train", *training(f"{address}/shards", tmp_path / "run")))
    assert state(tmp_path / "run") == state(alone / "run")


def sounds(folder: Path) -> list[bytes]:
    found = [clip.waveform.tobytes() for side in side_files(folder) for clip in examples(folder, side, RATE)]
    return sorted(found)
