"""Stage one on a cluster: the bytes of the local executor."""

import pytest

from pipeline.relabel import RelabelSettings
from pipeline.relabel import run as relabel
from pipeline.run import run
from pipeline.teachers.teacher import TeacherSet
from shards.errors import UserError
from shards.format.check import check
from tests.pipeline.executor.cluster.processes import Killer, files


@pytest.fixture(scope="module")
def made(on_ray, tmp_path_factory):
    """What the cluster makes of it, although a worker is killed while it decodes."""
    folder = tmp_path_factory.mktemp("made")
    with Killer("ray::decode_video") as killer:
        run(on_ray(folder))
    assert killer.killed
    return folder


def test_every_file_is_that_of_the_local_executor(made, local):
    found = {name: digest for name, digest in files(made).items() if not name.startswith("teachers/")}
    assert found == files(local)
    assert '"reason": "not_media"' in (made / "rejects.jsonl").read_text()
    assert check(made).clips > 10
    assert not list(made.rglob("*.partial")) and not list(made.glob(".spool*"))


def test_relabelling_too(on_ray, made, local, small_spec, videos, tmp_path):
    again = {"videos": str(videos), "teachers": TeacherSet("again", {"objects": small_spec}), "device": "cpu"}
    again |= {"batch_clips": 3, "teacher_processes": 1}
    relabel(RelabelSettings(shards=str(made), executor="ray", ray=on_ray(made).ray, **again))
    twin = tmp_path / "twin"
    twin.mkdir()
    for path in local.iterdir():
        if path.is_file():
            (twin / path.name).write_bytes(path.read_bytes())
    relabel(RelabelSettings(shards=str(twin), **again))
    assert files(made / "teachers") == files(twin / "teachers")


def test_no_cluster_at_an_address_is_one_line(on_ray, tmp_path):
    settings = on_ray(tmp_path)
    settings.ray = type(settings.ray)(address="127.0.0.1:1")
    with pytest.raises(UserError, match=r"ray\.address=127\.0\.0\.1:1: no Ray cluster answers"):
        run(settings)
