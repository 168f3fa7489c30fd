"""Commands and workers forked from a process that has imported torch, which costs each fresh one 3 s of a CPU."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import multiprocessing.forkserver as server
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from pipeline.executor import decode_worker

ROOT = Path(__file__).resolve().parents[1]
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["tests.forked", "pipeline.run", "train.run", "hydra"])


def _receive_or_abort(*arguments: Any) -> Any:
    """A command that is killed while it asks for a worker must not end the server, which it shares with others."""
    try:
        return _receive(*arguments)
    except EOFError:
        raise ConnectionAbortedError(errno.ECONNABORTED, "killed") from None  # which the server goes on after


_receive = reduction.recvfds
reduction.recvfds = _receive_or_abort


class Forked:
    """`python -m module words`, and its workers, in forked processes: to be waited for and killed as a Popen is."""

    def __init__(self, module: str, *words: str, **place: str) -> None:
        self._said = tempfile.NamedTemporaryFile("r")  # noqa: SIM115 - what goes to stderr
        server.ensure_running()
        there = server._forkserver._forkserver_address
        arguments = (module, words, os.environ | place, self._said.name, there)
        self._process = FORKSERVER.Process(target=_become, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[None, str]:
        assert self.wait(timeout) is not None, f"still at work after {timeout} s"
        return None, self._said.read()


def _become(module: str, words: tuple[str, ...], place: Mapping[str, str], said: str, there: str) -> None:
    gc.freeze()  # to look for garbage among what was imported copies all its pages
    # Its workers come from the same server: for want of a public way, multiprocessing would start one here.
    server._forkserver._forkserver_address, server._forkserver.ensure_running = there, lambda: None
    decode_worker.SPAWN = FORKSERVER
    os.environ.update(place)
    os.chdir(ROOT)
    os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), 2)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
