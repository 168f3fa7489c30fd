"""Commands and workers forked from a process that has imported torch, which costs each fresh one 3 s of a CPU."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import multiprocessing.forkserver as server
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import reduction
from multiprocessing.connection import Connection
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
    """`python -m module words`, and its workers, in forked processes: to be waited for and killed as a Popen is.

    `piped`: with `stdin` and `stdout`, pipes of bytes; else `communicate` gives its standard output.
    """

    def __init__(self, module: str, *words: str, cwd: Path = ROOT, piped: bool = False, **place: str) -> None:
        self._said = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115 - to stdout, to stderr
        server.ensure_running()
        there = server._forkserver._forkserver_address
        said = [file.name for file in self._said]
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(2)] if piped else []
        ends = [pipe[number] for number, pipe in enumerate(pipes)]
        arguments = (module, words, cwd, ends, os.environ | place, said, there)
        self._process = FORKSERVER.Process(target=_become, args=arguments)
        self._process.start()
        if piped:
            self.stdin, self.stdout = (
                os.fdopen(os.dup(pipes[0][1].fileno()), "wb"),
                os.fdopen(os.dup(pipes[1][0].fileno()), "rb"),
            )
            [end.close() for pipe in pipes for end in pipe]
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

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        assert self.wait(timeout) is not None, f"still at work after {timeout} s"
        output, errors = (file.read() for file in self._said)
        return output, errors


def python(option: str, what: str, *words: object, cwd: Path = ROOT, **place: str) -> subprocess.CompletedProcess[str]:
    """`python -m module words` or `python -c program words`, forked and run to its end."""
    given = [*map(str, words)]
    process = (
        Forked(what, *given, cwd=cwd, **place) if option == "-m" else Forked(option, what, *given, cwd=cwd, **place)
    )
    output, errors = process.communicate()
    return subprocess.CompletedProcess([option, what, *given], process.returncode or 0, output, errors)


def _become(
    module: str,
    words: tuple[str, ...],
    cwd: Path,
    pipes: list[Connection],
    place: Mapping[str, str],
    said: list[str],
    there: str,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs us in the background has it ignored
    gc.freeze()  # to look for garbage among what was imported copies all its pages
    # Its workers come from the same server: for want of a public way, multiprocessing would start one here.
    server._forkserver._forkserver_address, server._forkserver.ensure_running = there, lambda: None
    decode_worker.SPAWN = FORKSERVER
    os.environ.update(place)
    os.chdir(cwd)
    for number, name in enumerate(said, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    for number, pipe in enumerate(pipes):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdin = open(0)  # noqa: SIM115 - which multiprocessing has closed
    sys.argv = [module, *words]
    if module == "-c":
        del sys.argv[1]
        exec(words[0], {"__name__": "__main__"})
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
