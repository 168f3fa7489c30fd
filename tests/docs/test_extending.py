"""docs/extending.md is followed to the letter: its blocks become files and are run, in a copy of the checkout."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shards.format.manifest import Manifest
from tests.faults.commands import python
from tests.media import RATE, Track, film, moving, tone
from train.checkpoint.checkpoint import load

ROOMS = ("shards", "pipeline", "train", "evaluate", "soundnet", "conf", "docs", "tests")
BLOCK = re.compile(r"```(yaml|python|sh)\n(.*?)```", re.DOTALL)
# Follows the blocks that it reads; each command in a child of one process, in which torch and others are imported.
FOLLOW = r"""
import gc, json, os, re, runpy, shlex, sys
from pathlib import Path
import hydra, matplotlib.pyplot, pytest, sklearn.ensemble, sklearn.svm, timm, torch.utils.tensorboard, torchvision
gc.freeze()  # a child that looks for garbage copies all pages of these
for kind, text in json.loads(sys.argv[1]):
    if named := re.match(r"# (\S+/\S+?)(, at the end)?\n", text):
        path = Path(named[1])
        assert path.exists() == bool(named[2]), f"{path}: a new file is written, an old one added to"
        path.write_text((path.read_text() if named[2] else "") + text)  # blank lines are the formatter's
        continue
    for command in text.splitlines() if kind == "sh" else [text]:
        if (child := os.fork()) == 0:
            if kind == "sh":
                python, option, *sys.argv = shlex.split(command, comments=True)
                assert (python, option) == ("python", "-m")
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            else:
                exec(command)
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0, command
"""


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The checkout's code and settings, two videos of a clip each and six recordings."""
    for room in ROOMS:
        shutil.copytree(root / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "Makefile"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "videos").mkdir()
    for seed in (1, 2):
        path, picture = tmp_path / "videos" / f"{seed}.mp4", moving((160, 120), seed)
        film(path, 20, fps=5, size=(160, 120), picture=picture, tracks=[Track(tone(20, 300.0 * seed))])
    (tmp_path / "sounds").mkdir()
    for index in range(6):
        name, hertz = ("bell", 1800) if index % 2 else ("siren", 600)
        soundfile.write(tmp_path / "sounds" / f"{name}-{1 + index // 2}.wav", tone(2, hertz + 9 * index), RATE)
    return tmp_path


@pytest.mark.faults  # slow: stage one, training and an evaluation
def test_the_recipes_are_followed(root: Path, copy: Path) -> None:
    blocks = BLOCK.findall((root / "docs" / "extending.md").read_text())
    assert [kind for kind, _ in blocks].count("sh") == 4
    done = python("-c", FOLLOW, json.dumps(blocks), cwd=copy)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    card = Manifest.load(copy / "outputs/shards/mine").teachers["objects"]
    assert (card.architecture, len(card.classes)) == ("timm/test_resnet.r160_in1k", 1000)
    learned = load(copy / "outputs/runs/small/last.pt")
    assert learned.spec.layers[2].kind == "gated" and learned.teachers["objects"] == card
    said = re.search(r"for 441,000 samples: ([\d, ]+) and (\d+)", (root / "docs" / "extending.md").read_text())
    assert said is not None
    steps = [int(each.replace(",", "")) for each in [*said[1].split(", "), said[2]]]
    assert steps == [learned.spec.steps(441_000, layer.name) for layer in learned.spec.layers]
    (scores,) = (copy / "outputs/scores").glob("alarms-*/scores.json")
    found = json.loads(scores.read_text())
    assert found["classes"] == ["bell", "siren"] and np.sum(found["scores"][0]["confusion"]) == 6
    assert found["scores"][0]["layer"] == "gated1"


def test_what_the_page_links_to_is_there(root: Path) -> None:
    page = root / "docs" / "extending.md"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert links and [link for link in links if not (page.parent / link).exists()] == []
