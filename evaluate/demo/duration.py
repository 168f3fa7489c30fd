"""How long the demo takes, step by step, by the clock and in CPU seconds; kept in a file beside what it makes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.files import write_whole


@dataclass(frozen=True)
class Duration:
    """A step's time: `seconds` by the clock, `cpu_seconds` of this process and of all that it has waited for."""

    seconds: float
    cpu_seconds: float


@contextmanager
def timed(step: str, path: Path) -> Iterator[None]:
    """Note how long a step takes; of its visits the longest counts, since a step that is finished is over at once."""
    began, cpu_began = time.monotonic(), _cpu_seconds()
    yield
    lap = Duration(time.monotonic() - began, _cpu_seconds() - cpu_began)
    found = durations(path)
    found[step] = max(found.get(step, lap), lap, key=lambda each: each.seconds)
    write_whole(path, json.dumps({name: asdict(each) for name, each in found.items()}, indent=1).encode())


def durations(path: Path) -> dict[str, Duration]:
    """{step: its time}, in the order of the steps; a file that is missing or damaged holds none."""
    try:
        return {step: Duration(**fields) for step, fields in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def in_words(steps: dict[str, Duration]) -> str:
    """The total and its parts, as a sentence."""
    total, cpu = sum(each.seconds for each in steps.values()), sum(each.cpu_seconds for each in steps.values())
    parts = ", ".join(f"{step} {each.seconds:.0f} s" for step, each in steps.items())
    return f"Up to this page it took {total:.0f} s on {os.cpu_count()} CPU cores, {cpu:.0f} s of CPU time: {parts}."


def _cpu_seconds() -> float:
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system
