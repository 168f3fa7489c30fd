"""The processes that torchrun started: found in the environment, connected, and watched for the death of one."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import Event, Thread

import torch
import torch.distributed as dist

from shards.errors import UserError
from train.device.distributed import Ranks

TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it sets beside WORLD_SIZE
# Gloo's errors for a process that is gone have no class of their own.
LOST = re.compile(r"gloo|connection (closed|reset)|broken pipe|timed out", re.IGNORECASE)
CONNECTING = 60.0  # seconds in which all ranks are connected
KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # seconds, seconds, tries
GRACE = 20.0  # seconds in which a rank should notice by itself that another is gone


@contextmanager
def ranks_of(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started, connected; without torchrun, this one alone.

    Raises UserError where another of them ends: what they do next needs all.
    """
    world, local_rank = _place()
    if world == 1:
        yield Ranks()
        return
    if device == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    dist.init_process_group("nccl" if device == "cuda" and torch.cuda.is_available() else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        assert isinstance(control, dist.ProcessGroup)
        ranks = Ranks(dist.get_rank(), world, local_rank, control)
        with _watching(ranks):
            yield ranks
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not LOST.search(str(error)):
            raise
        raise UserError(_lost(world)) from None
    finally:
        dist.destroy_process_group()


def _lost(world: int) -> str:
    return (
        f"rank {os.environ.get('RANK')} has lost another of the {world} ranks, which was killed or says itself why "
        "it ended: run the same command again to go on from the last checkpoint"
    )


@contextmanager
def _watching(ranks: Ranks) -> Iterator[None]:
    """End this process where another is gone and this one waits for it on a GPU, which NCCL does for minutes.

    Every rank keeps a connection with rank 0 and sends a byte at its end: one that breaks before is a death. Where they
    cannot be connected, training goes on without. A checkpoint that is being written is written to its end.
    """
    connections, leaving = _connections(ranks), Event()

    def listen(connection: socket.socket) -> None:
        with suppress(OSError):
            if connection.recv(1):
                return
        if not leaving.wait(GRACE):
            print(f"error: {_lost(ranks.world)}", file=sys.stderr, flush=True)
            with ranks.writing:
                os._exit(1)

    listeners = [Thread(target=listen, args=(connection,)) for connection in connections]
    for listener in listeners:
        listener.start()
    word = b""
    try:
        yield
        word = b"."
    except (SystemExit, KeyboardInterrupt):  # told to stop: rank 0 may still be saving
        word = b"."
        raise
    finally:
        leaving.set()
        for connection, listener in zip(connections, listeners, strict=True):
            with suppress(OSError):
                connection.send(word)
                connection.shutdown(socket.SHUT_RDWR)  # which ends its thread's waiting
            listener.join()
            connection.close()


def _connections(ranks: Ranks) -> list[socket.socket]:
    """Rank 0's with all others, or another rank's with rank 0; none where one of them does not come."""
    connections: list[socket.socket] = []
    lacking = ""
    token = secrets.token_bytes(16)  # who else knocks at the port is not one of us
    with _server() if ranks.is_first else nullcontext() as server:
        port, token = ranks.share((server.getsockname()[1] if server else 0, token))
        try:
            if server is None:
                connections.append(socket.create_connection((os.environ["MASTER_ADDR"], port), CONNECTING))
                connections[0].sendall(token)
            while server is not None and len(connections) < ranks.world - 1:
                server.settimeout(CONNECTING)
                connection = server.accept()[0]
                connection.settimeout(CONNECTING)
                if connection.recv(len(token), socket.MSG_WAITALL) == token:
                    connections.append(connection)
                else:
                    connection.close()
        except OSError as error:
            lacking = str(error)
    if any(ranks.gather(lacking)):
        for connection in connections:
            connection.close()
        if lacking:
            print(f"rank {ranks.rank} is not watched for the death of others: {lacking}", file=sys.stderr)
        return []
    for connection in connections:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine without power sends no word
        for option, seconds in KEEPALIVE.items():
            if hasattr(socket, option):  # not macOS's first
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
    return connections


def _server() -> socket.socket:
    """Of whatever addresses this machine has."""
    both = socket.has_dualstack_ipv6()
    return socket.create_server(("", 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)


def _place() -> tuple[int, int]:
    """(ranks in all, this one's number on its machine) as torchrun says. Raises UserError where half of it is said."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return 1, 0
    missing = [name for name in TORCHRUN if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that there are several ranks, but {', '.join(missing)} is not "
            "set: start them with torchrun, or unset WORLD_SIZE"
        )
    try:
        return int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    except ValueError as error:
        raise UserError(f"WORLD_SIZE and LOCAL_RANK must be numbers, as torchrun sets them: {error}") from None
