"""How a cluster is dealt out, and what is said where that cannot be. Needs no Ray."""

import sys
from pathlib import Path

import pytest

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.cluster.executor import ClusterAllocation
from pipeline.executor.cluster.session import RaySettings, connected
from pipeline.executor.resources import Resources
from shards.errors import UserError
from shards.format.clip import ClipSpec


def deal(cpus, gpus, *, device="auto", teachers=0, **fields):
    found = ClusterAllocation.of(RaySettings(**fields), device=device, teachers=teachers, cpus=cpus, gpus=gpus)
    return found.device, found.teachers, found.shards


def test_a_teacher_for_each_share_of_a_gpu_or_for_two_cpus():
    assert deal(2, 0) == ("cpu", 1, 2)
    assert deal(64, 0) == ("cpu", 32, 8)
    assert deal(64, 4) == ("cuda", 4, 15)
    assert deal(64, 4, gpus_per_teacher=0.25) == ("cuda", 16, 12)
    assert deal(64, 4, gpus_per_teacher=0.4) == ("cuda", 8, 14)  # two fit on each, and not ten on four
    assert deal(64, 4, device="cpu", teachers=3, shards=5) == ("cpu", 3, 5)


@pytest.mark.parametrize(
    ("cpus", "gpus", "fields", "message"),
    [
        (8, 0, {"device": "cuda"}, "no CUDA device: use device=cpu"),
        (8, 1, {"teachers": 2}, r"teacher_processes=2.* room for 1 on its 1 GPUs"),
        (1, 0, {}, "1 CPUs: 1 teachers .* leave no room for a decoder"),
        (4, 0, {"teachers": 4}, "4 CPUs: 4 teachers .* leave no room"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(cpus, gpus, fields, message):
    with pytest.raises(UserError, match=message):
        deal(cpus, gpus, **fields)


@pytest.mark.parametrize("field", ["cpus_per_decoder", "gpus_per_teacher", "videos", "clips"])
def test_impossible_shares_are_refused(field):
    with pytest.raises(ValueError, match=field):
        RaySettings(**{field: 0})
    with pytest.raises(ValueError, match="at most 1"):
        RaySettings(gpus_per_teacher=2)


def test_without_ray_one_line_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"), connected("local", 2):
        pass


@pytest.mark.parametrize("field", ["decoders", "slots"])
def test_settings_of_the_local_executor_are_not_silently_ignored(field):
    resources = Resources(executor="ray", **{field: 3})
    with pytest.raises(UserError, match=f"{field}=3 is of executor=local"):
        resources.start(root="", spool=Path(), clip=ClipSpec(), heads={}, reading=DecodeSettings(), keep_frames=False)
