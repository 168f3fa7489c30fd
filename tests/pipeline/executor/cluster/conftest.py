"""A Ray cluster on this machine, the inputs of a run, and what the run should give."""

import pytest

from pipeline.executor.cluster.session import RaySettings
from pipeline.run import run


@pytest.fixture(scope="module")
def cluster():
    Cluster = pytest.importorskip("ray.cluster_utils").Cluster  # noqa: N806
    memory = {"object_store_memory": 100 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False} | memory)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    """The first in the plan's order by far the longest, one broken."""
    folder = tmp_path_factory.mktemp("videos")
    render_video(folder / "00.mp4", 12.3, seed=0, size=(320, 240))
    for number in range(1, 8):
        render_video(folder / f"{number:02d}.mp4", 1.0 + 0.4 * number, seed=number)
    (folder / "05.mp4").write_bytes(b"<html>not found</html>")
    return folder


@pytest.fixture(scope="module")
def on_ray(settings, cluster):
    """Settings of the same run on the cluster."""
    ray = {"executor": "ray", "ray": RaySettings(address=cluster.address), "decoders": 0}
    return lambda shards, **fields: settings(shards, **ray, **fields)


@pytest.fixture(scope="module")
def local(settings, tmp_path_factory):
    """What the local executor makes of it."""
    folder = tmp_path_factory.mktemp("local")
    run(settings(folder))
    return folder
