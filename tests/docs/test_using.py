"""What docs/using.md and docs/using.ipynb show runs, on a small checkpoint; the page's commands compose."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evaluate.inference.embed.run import EmbedSettings, run
from evaluate.inference.listen.run import ListenSettings
from evaluate.inference.tag.run import TagSettings
from shards.cli.command import compose
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from tests.forked import python
from train.checkpoint.checkpoint import Checkpoint, build, save
from train.model.layers import StudentSpec

SETTINGS = {"tag": TagSettings, "embed": EmbedSettings, "listen": ListenSettings}
# Runs the cells that it reads; a command behind `!` in a child of this process, in which torch is imported already.
NOTEBOOK = r"""
import json, os, re, shlex, sys
from soundnet.command import main
def system(command):
    if (child := os.fork()) == 0:
        sys.argv, code = shlex.split(command), 1
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, command
for cell in json.loads(sys.argv[1]):
    exec(re.sub(r"^( *)!(.*)", r'\1system(f"\2")', cell, flags=re.MULTILINE))
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "using.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the files that the page names."""
    folder = tmp_path_factory.mktemp("using")
    checkpoint = folder / "data" / "published" / "soundnet8.pt"
    checkpoint.parent.mkdir(parents=True)
    spec = compose(StudentSpec, "student/soundnet8")
    few = [replace(layer, filters=layer.filters and min(layer.filters, 256)) for layer in spec.layers]
    spec = replace(spec, layers=few)
    network = build(spec, {"objects": 2}, sample_rate=22_050)
    card = TeacherCard("none", "none", "", {}, ("dog", "cat"))
    mean = {"objects": torch.tensor([0.5, 0.5])}
    save(checkpoint, Checkpoint(spec, ClipSpec(), {"objects": card}, network.state_dict(), mean))
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-1, 1, 22_050), 22_050)
    run(EmbedSettings([folder / "a.wav"], checkpoint, folder / "outputs" / "features.npz"))
    return folder


@pytest.mark.faults  # slow: all of the page
def test_the_python_runs(root: Path, page: str, folder: Path) -> None:
    sources = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    wanted = [
        source for source in sources if re.search(r"torch\.hub|hear_soundnet|features\.npz|soundnet\.load", source)
    ]
    assert len(wanted) == 4
    checks = [
        "assert embeddings.shape == (2, 64, 128) == (*milliseconds.shape, 128) and scenes.shape == (2, 256)",
        "assert vectors.shape == (64, 128) == (*seconds.shape, 128) and vector.shape == (256,)",
        "assert logits['objects'].shape == (1, 2, 4) and pool5.shape[:2] == (1, 256)",
    ]
    program = "\n".join([*wanted, *checks]).replace("/path/to/soundnet", str(root))
    done = python("-c", program, cwd=folder)
    assert done.returncode == 0, done.stderr
    features, tags, hub = done.stdout.splitlines()
    assert features.endswith("a.wav'] (1, 256)") and tags.startswith("objects [('") and hub == "(256,)"


def test_the_settings_are_there(page: str) -> None:
    seen = set()
    for line in "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines():
        made = re.match(r"(?:make|soundnet) (tag|embed|listen) (.*)", line)
        if made is None:
            continue
        words = [word for word in shlex.split(made[2], comments=True) if "=" in word]
        files = [] if made[1] == "listen" or any(word.startswith("files=") for word in words) else ["files=a.wav"]
        assert isinstance(compose(SETTINGS[made[1]], made[1], [*files, *words]), SETTINGS[made[1]])
        seen.add(made[1])
    assert seen == set(SETTINGS)


@pytest.mark.faults  # slow: all of the page
def test_the_notebook_runs_and_shows_what_it_printed(root: Path, folder: Path, tmp_path: Path) -> None:
    """With other weights and a sound that it makes itself. Each cell that prints has its output in the file."""
    cells = [cell for cell in json.loads((root / "docs" / "using.ipynb").read_text())["cells"] if "outputs" in cell]
    sources = ["".join(cell["source"]) for cell in cells]
    (tmp_path / "data").symlink_to(folder / "data")
    done = python("-c", NOTEBOOK, json.dumps(sources), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "['a.wav'] (1, 256)" in lines and (tmp_path / "outputs" / "soundnet8.safetensors").is_file()
    speaks = ["!" in source or "print(" in source for source in sources[2:]]  # what comes before fetches the weights
    assert [len(cell["outputs"]) == 1 for cell in cells[2:]] == speaks
