"""Both stages as a user starts them: words of the command line, each in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.forked import ROOT, Forked
from train.checkpoint.checkpoint import load
from train.model.layers import Layer

Process = subprocess.Popen[str] | Forked
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of Linux

# 2000 samples / 250 / 62 / 15 / 4 steps
LAYERS = [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4), Layer("conv2", 8, 4, 4, 12)]
OUTPUT = Layer("conv3", 6, 3)


def start(module: str, *words: str, before: Callable[[], object] | None = None, **place: str) -> Process:
    """`before` is called in the process before it becomes the command, as for a limit."""
    command = [sys.executable, "-m", module, *words]
    place = os.environ | {"OMP_NUM_THREADS": "1"} | place

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell that runs us in the background has ignored
        if before is not None:
            before()

    return subprocess.Popen(command, cwd=ROOT, env=place, stderr=subprocess.PIPE, text=True, preexec_fn=begin)


def python(*words: object, cwd: Path = ROOT, **place: str) -> subprocess.CompletedProcess[str]:
    """This Python with these words, run to its end."""
    command, place = [sys.executable, *map(str, words)], os.environ | {"OMP_NUM_THREADS": "1"} | place
    return subprocess.run(command, cwd=cwd, env=place, capture_output=True, text=True, check=False)


def largest_file(limit: int) -> Callable[[], None]:
    """No file may grow beyond so many bytes: what a full disk does, without a disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def obey_permissions() -> None:
    """Give up root's right to write everywhere, for this process and its children; others never had it."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def children(process: Process, name: str) -> list[int]:
    """Its child processes that are called so: `teacher_worker`, `decode_worker`, `shard_worker`."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        found += [
            int(child) for child in task.read_text().split() if Path(f"/proc/{child}/comm").read_text().strip() == name
        ]
    return found


def shared_mappings(process: int | str) -> list[tuple[int, int, str]]:
    """(begin, end, name) of the memory that a process shares with others, or could."""
    found = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        place, access, _, _, _, *name = line.split(maxsplit=5)
        if access.endswith("s") and name:
            begin, end = (int(address, 16) for address in place.split("-"))
            found.append((begin, end, name[0]))
    return found


def finish(process: Process, code: int = 0, seconds: float = 300) -> str:
    """What the process said, once it has ended with this code."""
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == code, f"exit code {process.returncode}: {said}"
    return said


def one_line(said: str) -> str:
    """The error that was said, which is one line and no traceback."""
    lines = said.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert "Traceback" not in said and lines[-1] == line, said
    return line


def living_in_group(group: int) -> list[str]:
    """Ids of the processes of a group that are no zombies."""
    living = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            living.append(path.parent.name)
    return living


def labelling(videos: Path, shards: Path, network: Path, **settings: object) -> list[str]:
    """Stage one with a small network, in clips of 2 s, three videos a shard."""
    transform = "{resize:40,crop:32,channels:rgb,mean:[127,127,127],std:[64,64,64],interpolation:bicubic}"
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


def two_ranks(
    words: list[str], start: Callable[..., Process] = start, *, others: list[str] | None = None
) -> list[Process]:
    """`ranks` of them; `others`: words that rank 1 is started with instead, as on another machine."""
    return ranks([words, words if others is None else others], start)


def ranks(commands: list[list[str]], start: Callable[..., Process] = start) -> list[Process]:
    """What torchrun starts: each rank's words as a command, with its place in the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(len(commands))}
    return [start("train", *each, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank, each in enumerate(commands)]


def state(run: Path) -> Mapping[str, object]:
    """All that a checkpoint goes on from, bit by bit."""
    checkpoint = load(run / "last.pt")
    assert checkpoint.optimizer is not None
    network = {name: tensor.numpy().tobytes() for name, tensor in checkpoint.network.items()}
    adam = {
        f"{number}.{name}": tensor.numpy().tobytes()
        for number, moments in checkpoint.optimizer["state"].items()
        for name, tensor in moments.items()
    }
    return network | adam | {"position": checkpoint.position, "best": checkpoint.best}


def wait_until(true: Callable[[], object], *processes: Process, seconds: float = 200) -> None:
    """Until it is true, while all the processes live."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def files(folder: Path, pattern: str) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}
