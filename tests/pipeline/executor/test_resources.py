"""Settings to executor: devices for the teachers, and settings that are of the other executor."""

from pathlib import Path

import pytest
import torch

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor import resources
from pipeline.executor.resources import Resources
from shards.errors import UserError
from shards.format.clip import ClipSpec


@pytest.mark.parametrize(
    ("settings", "gpus", "devices"),
    [
        ({}, 0, ["cpu"] * 3),  # six cores
        ({}, 2, ["cuda:0", "cuda:1"]),
        ({"device": "cpu"}, 2, ["cpu"] * 3),
        ({"device": "cuda", "teacher_processes": 3}, 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ({"device": "cuda:1"}, 2, ["cuda:1"]),
    ],
)
def test_a_teacher_process_for_each_gpu_or_two_cores(monkeypatch, settings, gpus, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(resources, "_cores", lambda: 6)
    assert Resources(**settings)._devices() == devices


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_one_line(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=f"device={device}, but this machine has no CUDA device: use device=cpu"):
        Resources(device=device)._devices()


@pytest.mark.parametrize("field", ["decoders", "spool_gigabytes"])
def test_settings_of_the_local_executor_are_not_silently_ignored(field):
    chosen = Resources(executor="ray", **{field: 3})
    with pytest.raises(UserError, match=f"{field}=3 works with executor=local only"):
        chosen.start(
            root="",
            spool=Path(),
            clip=ClipSpec(),
            heads={},
            reading=DecodeSettings(),
            audio="wav",
            keep_frames=False,
            precision="float32",
        )
