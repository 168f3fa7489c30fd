"""A closed pipe behind each command, as real processes: no traceback, no word, and the exit code of SIGPIPE."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.cli.pipes import CLOSED_PIPE, ending_quietly

ROOT = Path(__file__).resolve().parents[3]
MODULES = ["shards", "evaluate.inference.tag"]  # one for each of the two ways
LONG = """
import sys
from dataclasses import dataclass
from pathlib import Path
from shards.cli.command import command

@dataclass
class Dummy:
    lines: int = 0

def run(settings):
    for number in range(settings.lines):
        print(number, file=sys.{stream})

command(Dummy, "dummy", run, conf=Path(sys.argv.pop(1)))
"""


def unread(*words: str, stream: str = "stdout") -> tuple[int, str]:
    """Exit code, and what went to the other stream, of a command that writes into a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, text=True, timeout=100, **streams)  # type: ignore[call-overload]
    finally:
        os.close(writer)
    return done.returncode, done.stderr if stream == "stdout" else done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_help_that_nobody_reads_ends_without_a_word(module: str) -> None:
    assert unread("-m", module, "--help") == (CLOSED_PIPE, "")


def test_every_command_ends_in_one_of_the_two_ways() -> None:
    for room in ("shards", "pipeline", "train", "evaluate"):
        for path in (ROOT / room).rglob("*.py"):
            _, main, body = path.read_text().partition('\nif __name__ == "__main__":\n')
            assert not main or "command(" in body or "ending_quietly()" in body, path


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_long_output_is_given_up_in_the_middle(tmp_path: Path, stream: str) -> None:
    (tmp_path / "dummy.yaml").write_text("lines: 100000\n")
    assert unread("-c", LONG.format(stream=stream), str(tmp_path), stream=stream) == (CLOSED_PIPE, "")


def test_the_folder_check_says_nothing_more(tmp_path: Path) -> None:
    """Its one line is printed at the very end."""
    code, said = unread("-m", "shards", f"shards={tmp_path / 'nowhere'}", stream="stderr")
    assert (code, said) == (CLOSED_PIPE, "")


def test_another_pipe_that_breaks_is_still_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), ending_quietly():
        os.write(writer, b"x")
    os.close(writer)
