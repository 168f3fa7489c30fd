"""What the tests on a cluster share: a hunter of processes, and the hashes of all that a run keeps."""

import contextlib
import hashlib
import os
import signal
import threading
from pathlib import Path

from pipeline.output.ledger import RUNS


def files(folder):
    """The hash of every file that is kept but for the log, the page and the ledgers of the runs."""
    suffixes = (".tar", ".json", ".jsonl")
    names = [path for path in folder.rglob("*") if path.suffix in suffixes and path.parent.name != RUNS]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def titled(title):
    """The processes whose title begins so."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_bytes().startswith(title.encode()):
                yield int(place.name)


class Killer:
    """Kills, by signal 9, the first `times` processes whose title begins so, once `when` is true. Use as a context."""

    def __init__(self, title, times=1, when=lambda: True):
        self.title, self.times, self.when, self.killed = title, times, when, []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hunt)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _hunt(self):
        while len(self.killed) < self.times and not self._over.wait(0.01):
            victim = next((pid for pid in titled(self.title) if pid not in self.killed), None)
            if victim is not None and self.when():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    self.killed.append(victim)
