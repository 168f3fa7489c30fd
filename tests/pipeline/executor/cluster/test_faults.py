"""What a lost process, node or driver costs on a cluster: nothing but time."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.relabel import RelabelSettings
from pipeline.relabel import run as relabel
from pipeline.run import run
from pipeline.teachers.spec import TeacherSet
from shards.errors import UserError
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


def test_kill_9_of_the_driver_then_the_same_command(settings, local, tmp_path, root):
    """On a cluster that Ray starts itself, which goes with its driver."""
    spec, shards = settings(tmp_path).teachers.heads["objects"], tmp_path / "shards"
    words = [f"videos={settings(tmp_path).videos}", f"shards={shards}", "executor=ray", "device=cpu", "batch_clips=2"]
    words += ["teachers=efficientnet_lite0", "teachers.name=small", "validation_share=0.3", "shard_size.videos=3"]
    words += [f"teachers.heads.objects.{name}={getattr(spec, name)}" for name in ("architecture", "weights", "classes")]
    words += [
        "teachers.heads.objects.transform={resize:40,crop:32,channels:rgb,mean:[127,127,127],std:[64,64,64],interpolation:bicubic}"
    ]
    words += ["clip.seconds=2.0", "teacher_processes=1", "ray.shards=1", "ray.cpus_per_decoder=0.5"]
    command = [sys.executable, "-m", "pipeline", *words]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
    while not list(shards.glob("*.tar")) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = files(shards)
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
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
    with pytest.raises(UserError, match=r"^a\.mp4 cannot be labelled again: changed: "):
        relabel(RelabelSettings(**again))
