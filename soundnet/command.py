"""The command `soundnet`: `soundnet tag a.wav checkpoint=...` runs what `make tag` runs, from any folder."""

from __future__ import annotations

import os
import runpy
import sys
from typing import NoReturn

from soundnet import __version__
from soundnet.modules import ROOT


def main() -> None:
    """Run the command that sys.argv names, as `python -m` does, in this process. Exit code 2: there is none such."""
    # This process is ours alone, and so are those that it starts: none of them looks for modules in the folder of the
    # user, where a train.py or a socket.py of their own may lie.
    sys.path.insert(0, str(ROOT))
    before = os.environ.get("PYTHONPATH")
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)}
    from shards.cli.loading import loading
    from shards.cli.pipes import ending_quietly

    try:
        with ending_quietly(), loading():
            _run(*sys.argv[1:])
    except OSError as error:  # as of a full disk that the list of commands goes to
        _fail(error.strerror or str(error), 1)


def _run(name: str = "--help", *words: str) -> None:
    from shards.cli.commands import COMMANDS, PROGRAM, missing
    from shards.cli.settings import unknown

    if name in ("--help", "-h", "help"):
        rows = [f"  {name:<16} {command.about}" for name, command in COMMANDS.items()]
        head = "usage: soundnet COMMAND [key=value ...]\n       soundnet COMMAND --help: the command's settings"
        print("\n".join([head, "", *rows]))
    elif name == "--version":
        print(f"soundnet {__version__}")
    elif name not in COMMANDS:
        _fail(unknown(name, COMMANDS), 2)
    else:
        command = COMMANDS[name]
        os.environ[PROGRAM] = f"soundnet {name}"
        sys.argv[1:] = [*command.words, *words]
        try:
            runpy.run_module(command.module, run_name="__main__", alter_sys=True)
        except ModuleNotFoundError as error:
            if (line := missing(error)) is None:
                raise
            _fail(line, 1)


def _fail(line: str, code: int) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(code)
