"""Both stages as a user starts them: words of the command line, each in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from train.layers import Layer

ROOT = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str]

# 2000 samples / 250 / 62 / 15 / 4 steps
LAYERS = [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4), Layer("conv2", 8, 4, 4, 12)]
OUTPUT = Layer("conv3", 6, 3)


def start(module: str, *words: str, **place: str) -> Process:
    command = [sys.executable, "-m", module, *words]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | place, stderr=subprocess.PIPE, text=True)


def finish(process: Process, code: int = 0, seconds: float = 100) -> str:
    """What the process said, once it has ended with this code."""
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def one_line(said: str) -> str:
    """The error that was said, which is one line and no traceback."""
    lines = said.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert "Traceback" not in said and lines[-1] == line, said
    return line


def labelling(videos: Path, shards: Path, network: Path, **settings: object) -> list[str]:
    """Stage one with a small network, in clips of 2 s, three videos a shard."""
    transform = "{resize:40,crop:32,channels:rgb,mean:[127,127,127],std:[64,64,64]}"
    teacher = {"architecture": "shufflenet_v2_x0_5", "weights": network / "weights.pth", "transform": transform}
    words = {"videos": videos, "shards": shards, "teachers": "efficientnet_lite0", "teachers.name": "small"}
    words |= {f"teachers.heads.objects.{name}": value for name, value in teacher.items()}
    words |= {"teachers.heads.objects.classes": network / "classes.txt", "clip.seconds": 2.0, "device": "cpu"}
    words |= {"decoders": 2, "batch_clips": 2, "teacher_processes": 1, "validation_share": 0.3, "shard_size.videos": 3}
    return [f"{key}={value}" for key, value in (words | settings).items()]


def training(shards: Path, run: Path, **settings: object) -> list[str]:
    """Stage two on a CPU, with a student of three layers."""
    layers = json.dumps([vars(layer) for layer in LAYERS]).replace('"', "")
    words: dict[str, object] = {"shards": shards, "run": run, "device": "cpu", "compile": "false", "batch": 8}
    words |= {"student.name": "tiny", "student.layers": layers}
    words |= {f"student.output.{name}": value for name, value in vars(OUTPUT).items()}
    words |= {"steps": 20, "log_every": 5, "validate_every": 10, "save_every": 8} | settings
    return [f"{key}={'null' if value is None else value}" for key, value in words.items()]


def two_ranks(words: list[str]) -> list[Process]:
    """What `torchrun --nproc-per-node 2` starts: the same command, with each rank's place in the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return [start("train", *words, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def wait_until(true: Callable[[], object], *processes: Process, seconds: float = 60) -> None:
    """Until it is true, while all the processes live."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def files(folder: Path, pattern: str) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}
