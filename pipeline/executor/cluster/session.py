"""A connection to a Ray cluster, or a cluster of one's own on this machine: quiet, and always ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shards.format.manifest import ContractError

ANSWER_SECONDS = 10.0

# Ray reads these when it is imported. No statistics are sent, and nothing but errors is said.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@contextmanager
def connected(address: str, cpus: int) -> Iterator[None]:
    """`address` is `local` for a cluster with so many CPUs, or that of a running one. Raises ContractError."""
    ray = imported()
    require_answer(address)
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
    options = {"include_dashboard": False, "num_cpus": cpus, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, **(options if address == "local" else {})
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise no_cluster(address, error) from None
    try:
        signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def require_answer(address: str) -> None:
    """Ray itself tries a dead address for minutes. Raises ContractError."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> ContractError:
    said = " ".join(str(error).split())
    return ContractError(
        f"ray.address={address}: no Ray cluster answers ({said}). Start one with `ray start --head`, or leave "
        "ray.address out for a cluster on this machine alone"
    )


def imported() -> Any:
    """Raises ContractError where Ray is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ContractError("executor=ray needs Ray, which is not installed: pip install -e '.[ray]'") from None
    return ray
