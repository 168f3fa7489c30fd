"""What a lost process, node or driver costs on a cluster: nothing but time."""

import threading
import time

import pytest

from pipeline.relabel.run import RelabelSettings
from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.teachers.spec import TeacherSet
from shards.errors import UserError
from tests.faults.commands import finish, start, wait_until
from tests.pipeline.executor.cluster.processes import Killer, files

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("title", ["ray::decode_video", "ray::TeacherActor", "ray::make_shard"])
def test_kill_9_of_a_worker_of_rays_costs_nothing(on_ray, local, tmp_path, title):
    with Killer(title, times=2) as killer:
        run(on_ray(tmp_path))
    assert killer.killed
    assert files(tmp_path) == files(local)


def test_a_lost_node_costs_nothing(on_ray, cluster, local, tmp_path):
    """Its raylet is killed, and all that ran there with it, once the first shard stands."""
    node = cluster.add_node(num_cpus=2, object_store_memory=100 * 1024 * 1024)

    def lose():
        while not list(tmp_path.glob("*.tar")):
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    run(on_ray(tmp_path))
    loser.join()
    assert files(tmp_path) == files(local)


def test_kill_9_of_the_driver_then_the_same_command(words_of, videos, local, tmp_path):
    """On a cluster that Ray starts itself, which goes with its driver."""
    shards = tmp_path / "shards"
    fields = {"shard_size.videos": 3, "ray.shards": 1, "ray.cpus_per_decoder": 0.5}
    words = words_of(videos=videos, shards=shards, executor="ray", decoders=0, **fields)
    process = start("pipeline", *words)
    wait_until(lambda: list(shards.glob("*.tar")), process)
    process.kill()
    process.wait()
    first = files(shards)
    finish(start("pipeline", *words))
    kept = {name: digest for name, digest in first.items() if name.endswith(".tar")}
    assert kept and kept.items() <= files(shards).items()
    assert files(shards) == files(local)


def test_a_video_that_changed_is_refused_in_the_line_of_the_local_executor(on_ray, tmp_path, videos, small_spec):
    mine = tmp_path / "videos"
    mine.mkdir()
    (mine / "a.mp4").write_bytes((videos / "01.mp4").read_bytes())
    settings = on_ray(tmp_path / "shards", videos=str(mine))
    run(settings)
    (mine / "a.mp4").write_bytes((videos / "02.mp4").read_bytes())
    again = {"teachers": TeacherSet("again", {"objects": small_spec}), "device": "cpu", "teacher_processes": 1}
    again |= {"videos": str(mine), "shards": settings.shards, "executor": "ray", "ray": settings.ray}
    with pytest.raises(UserError, match=r"lacks labels of 1 shard: .*'a\.mp4': changed: "):
        relabel(RelabelSettings(**again))
