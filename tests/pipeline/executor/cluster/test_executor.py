"""Stage one on a cluster: how it is divided, and the bytes of the local executor."""

import importlib

import pytest

from pipeline.executor.cluster.executor import ClusterAllocation
from pipeline.executor.cluster.session import RaySettings, connected
from pipeline.relabel.run import RelabelSettings
from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.teachers.spec import TeacherSet
from shards.errors import UserError
from shards.format.check import check
from tests.pipeline.executor.cluster.processes import Killer, files


def divide(cpus, gpus, *, device="auto", teachers=0, **fields):
    found = ClusterAllocation.of(RaySettings(**fields), device=device, teachers=teachers, cpus=cpus, gpus=gpus)
    return found.device, found.teachers, found.shards


def test_a_teacher_for_each_share_of_a_gpu_or_for_two_cpus():
    assert divide(2, 0) == ("cpu", 1, 2)
    assert divide(64, 0) == ("cpu", 32, 8)
    assert divide(64, 4) == ("cuda", 4, 15)
    assert divide(64, 4, gpus_per_teacher=0.25) == ("cuda", 16, 12)
    assert divide(64, 4, gpus_per_teacher=0.4) == ("cuda", 8, 14)  # two fit on each, and not ten on four
    assert divide(64, 4, device="cpu", teachers=3, shards=5) == ("cpu", 3, 5)


@pytest.mark.faults  # slow: a cluster
def test_workers_find_our_packages_from_any_folder(cluster, root, tmp_path, monkeypatch):
    (tmp_path / "pipeline.py").write_text("raise SystemExit('the wrong one')")  # of the user's
    monkeypatch.chdir(tmp_path)
    with connected(cluster.address, 2):
        ray = importlib.import_module("ray")
        place = ray.get(ray.remote(lambda: importlib.import_module("pipeline").__path__).remote())
    assert list(place) == [str(root / "pipeline")]


@pytest.mark.parametrize(
    ("cpus", "gpus", "fields", "message"),
    [
        (8, 0, {"device": "cuda"}, "no CUDA device: use device=cpu"),
        (8, 1, {"teachers": 2}, r"teacher_processes=2.* room for 1 on its 1 GPUs"),
        (1, 0, {}, "1 CPUs: 1 teachers .* leave no room for a decoder"),
        (4, 0, {"teachers": 4}, "4 CPUs: 4 teachers .* leave no room"),
    ],
)
def test_what_does_not_fit_is_one_line(cpus, gpus, fields, message):
    with pytest.raises(UserError, match=message):
        divide(cpus, gpus, **fields)


@pytest.fixture(scope="module")
def made(on_ray, tmp_path_factory):
    """What the cluster makes of it, although a worker is killed while it decodes."""
    folder = tmp_path_factory.mktemp("made")
    with Killer("ray::decode_video") as killer:
        run(on_ray(folder))
    assert killer.killed
    return folder


@pytest.mark.faults  # slow: a cluster
def test_every_file_is_that_of_the_local_executor(made, local):
    found = {name: digest for name, digest in files(made).items() if not name.startswith("teachers/")}
    assert found == files(local)
    assert '"reason": "not_media"' in (made / "rejects.jsonl").read_text()
    assert check(made).clips > 10
    assert not list(made.rglob("*.partial"))


@pytest.mark.faults  # slow: a cluster
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


@pytest.mark.faults  # slow: a cluster
def test_no_cluster_at_an_address_is_one_line(on_ray, tmp_path):
    settings = on_ray(tmp_path)
    settings.ray = type(settings.ray)(address="127.0.0.1:1")
    with pytest.raises(UserError, match=r"ray\.address=127\.0\.0\.1:1: no Ray cluster answers"):
        run(settings)
