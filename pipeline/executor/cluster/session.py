"""A connection to a Ray cluster, or a cluster of one's own on this machine: settings, beginning and end."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.cli.commands import install
from shards.errors import UserError

ANSWER_SECONDS = 10.0
ROOT = Path(__file__).resolve().parents[3]  # what `pipeline` is imported from

# Ray reads these when it is imported. No statistics are sent, and nothing but errors is printed.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@dataclass(frozen=True)
class RaySettings:
    """The conf block `ray`. None of it changes a result, but for the kind of device."""

    # local: a cluster on this machine, for this run; auto: the one this machine is in; or host:port
    address: str = "local"
    cpus_per_decoder: float = 1.0  # CPUs that Ray reserves for a decode process
    cpus_per_teacher: float = 1.0  # CPUs that Ray reserves for a teacher process
    gpus_per_teacher: float = 1.0  # GPUs that Ray reserves for a teacher process; 0.25: four share a GPU
    shards: int = 0  # shards under way at once; 0: one for each 4 decoders, and at least 2
    videos: int = 8  # videos of each shard under way at once
    clips: int = 64  # no new video of a shard is begun while so many of its clips are decoded and not labelled

    def __post_init__(self) -> None:
        if min(self.cpus_per_decoder, self.gpus_per_teacher) <= 0 or self.cpus_per_teacher < 0 or self.shards < 0:
            raise ValueError(
                "ray.cpus_per_decoder and ray.gpus_per_teacher are above 0, the other numbers not below it"
            )
        if self.gpus_per_teacher > 1:
            raise ValueError(
                f"ray.gpus_per_teacher is at most 1, not {self.gpus_per_teacher:g}: a teacher has one device"
            )
        if self.videos < 1 or self.clips < 1:
            raise ValueError("ray.videos and ray.clips are at least 1")


class SearchedFirst(list[str]):
    """Folders in which a worker looks for modules, the last one first. Ray itself appends the current folder, where
    there may be a pipeline.py of the user's: here that goes before ours."""

    def extend(self, folders: Iterable[str]) -> None:
        self[:0] = folders


def import_ray() -> Any:
    """The module. Raises UserError where Ray is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UserError(f"executor=ray needs Ray, which is not installed: {install('ray')}") from None
    return ray


@contextmanager
def connected(address: str, cpus: int) -> Iterator[None]:
    """`address` is `local` for a cluster with so many CPUs, or that of a running one. Raises UserError."""
    ray = import_ray()
    require_answer(address)
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
    found_in = ray.job_config.JobConfig()
    found_in._py_driver_sys_path = SearchedFirst([str(ROOT)])
    options = {"include_dashboard": False, "num_cpus": cpus, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            address=address,
            job_config=found_in,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(options if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise no_cluster(address, error) from None
    try:
        signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def require_answer(address: str) -> None:
    """Ray itself tries a dead address for minutes. Raises UserError."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> UserError:
    message = " ".join(str(error).split())
    return UserError(
        f"ray.address={address}: no Ray cluster answers ({message}). Start one with `ray start --head`, or leave "
        "ray.address out for a cluster on this machine alone"
    )
