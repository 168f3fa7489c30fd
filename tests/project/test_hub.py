"""hubconf.py and hear_soundnet.py as programs elsewhere use them: from the checkout, in processes of their own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import hubconf
from shards.cli.command import compose
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from soundnet.modules import own
from train.checkpoint.checkpoint import Checkpoint, build, load_network, save
from train.model.layers import StudentSpec


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with soundnet8.pt and soundnet5.pt, both untrained."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("soundnet8", "soundnet5"):
        spec = compose(StudentSpec, f"student/{name}")
        network = build(spec, {"objects": 2}, sample_rate=22_050)
        card = TeacherCard("none", "none", "", {}, ("dog", "cat"))
        save(folder / f"{name}.pt", Checkpoint(spec, ClipSpec(), {"objects": card}, network.state_dict()))
    return folder


# Runs each program that it reads in a child of its own, in which torch is imported already.
PROGRAMS = """
import gc, json, os, sys, torch
gc.freeze()
for line in sys.stdin:
    source, folder, path, words, said = json.loads(line)
    if os.fork() == 0:
        for number, name in enumerate(said, 1):
            os.dup2(os.open(name, os.O_WRONLY), number)
        os.chdir(folder)
        sys.path[1:1], sys.argv = path, ["-c", *words]
        exec(source, {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def python() -> Iterator[Program]:
    """Exit code, what was printed and the last line of stderr of a program that runs in `folder`."""
    place = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    how: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": place, "cwd": "/"}
    with subprocess.Popen([sys.executable, "-c", PROGRAMS], **how) as process:

        def run(source: str, folder: Path, *path: Path, words: Sequence[str] = ()) -> tuple[int, str, str]:
            with NamedTemporaryFile("r") as printed, NamedTemporaryFile("r") as errors:
                given = [source, folder, path, words, [printed.name, errors.name]]
                print(json.dumps(given, default=str), file=process.stdin, flush=True)
                code = int(process.stdout.readline())
                return code, printed.read(), (errors.read().splitlines() or [""])[-1]

        yield run


@pytest.mark.parametrize(("name", "shape"), [("soundnet8", (1, 256, 3)), ("soundnet5", (1, 128, 44))])
def test_hub_loads_a_network(root: Path, checkpoints: Path, name: str, shape: tuple[int, ...]) -> None:
    loaded = torch.hub.load(str(root), name, source="local", checkpoint=checkpoints / f"{name}.pt")
    layer = "pool5" if name == "soundnet8" else "conv3"
    waveform = torch.randint(-9_000, 9_000, (22_050,), dtype=torch.int16)
    with torch.no_grad():
        expected = load_network(checkpoints / f"{name}.pt")[0].features(waveform[None] / 128, [layer])[layer]
    assert expected.shape == shape and not loaded.training and not loaded.network.training
    np.testing.assert_allclose(loaded.embed(waveform, 22_050, layer), expected.mean(dim=2)[0], rtol=1e-4, atol=1e-6)
    assert loaded.classes == {"objects": ("dog", "cat")} and loaded.sample_rate == 22_050


def test_hub_needs_what_it_says_and_nothing_else(python: Program, root: Path, checkpoints: Path) -> None:
    """Torch brings packages of its own, which are loaded before the first look."""
    source = (
        "import importlib, sys, hubconf, torch; [importlib.import_module(name) for name in sys.argv[1:]];"
        "top = lambda: {name.partition('.')[0] for name, module in list(sys.modules.items())"
        " if 'site-packages' in (getattr(module, '__file__', None) or '')}; before = top();"
        "hubconf.soundnet8('soundnet8.pt'); print(sorted(top() - before), *sorted(set(hubconf.dependencies) - top()))"
    )
    for early in (hubconf.dependencies, []):
        code, printed, error = python(source, checkpoints, root, words=early)
        assert (code, error) == (0, "")
        assert printed == "[]\n" if early else set(ast.literal_eval(printed)) <= set(hubconf.dependencies)


def test_hub_refuses_another_network(root: Path, checkpoints: Path) -> None:
    with pytest.raises(Exception, match=r"soundnet8\.pt holds a soundnet8, which is not soundnet5") as caught:
        torch.hub.load(str(root), "soundnet5", source="local", checkpoint=checkpoints / "soundnet8.pt")
    assert type(caught.value).__name__ == "UserError"


def test_hear_is_a_module_of_the_checkout(python: Program, root: Path, checkpoints: Path) -> None:
    source = (
        "import torch, hear_soundnet as hear; model = hear.load_model('soundnet8.pt'); audio = torch.rand(2, 22050);"
        "print(tuple(hear.get_scene_embeddings(audio, model).shape), model.sample_rate,"
        " tuple(hear.get_timestamp_embeddings(audio, model)[0].shape))"
    )
    assert python(source, checkpoints, root) == (0, "(2, 256) 22050 (2, 21, 128)\n", "")


@pytest.mark.parametrize("package", ["train", "shards", "evaluate", "pipeline"])
def test_another_package_of_that_name_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    other = ModuleType(package)
    other.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, package, other)
    with pytest.raises(ImportError) as caught:
        own("train.checkpoint.checkpoint")
    assert str(caught.value) == (
        f"SoundNet needs its own package {package!r} ({root / package}), but another one is imported already "
        f"({tmp_path}): use SoundNet in a process of its own"
    )


def test_a_program_with_another_evaluate_is_told(
    python: Program, root: Path, checkpoints: Path, tmp_path: Path
) -> None:
    (tmp_path / "evaluate.py").touch()
    hub = f"torch.hub.load({str(root)!r}, 'soundnet8', source='local', checkpoint='soundnet8.pt')"
    for use in ("import evaluate, hear_soundnet", f"import evaluate, torch; {hub}"):
        code, _, line = python(use, checkpoints, tmp_path, root)
        assert code == 1 and line.startswith("ImportError: SoundNet needs its own package 'evaluate'")


def test_a_module_that_merely_lies_about_is_no_hindrance(
    python: Program, root: Path, checkpoints: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "soundnet8.pt").write_bytes((checkpoints / "soundnet8.pt").read_bytes())
    source = f"import torch; torch.hub.load({str(root)!r}, 'soundnet8', source='local', checkpoint='soundnet8.pt')"
    assert python(source, tmp_path) == (0, "", "")
