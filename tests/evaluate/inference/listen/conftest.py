"""A page that listens with a tiny network, whose class names and neighbours' names are HTML."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from evaluate.inference.listen.listener import Listener
from evaluate.inference.listen.server import ListenServer
from evaluate.inference.listen.similar import SimilarSounds
from evaluate.inference.tag.baseline import Baseline
from evaluate.model import EvaluatedModel
from shards.format.manifest import TeacherCard
from tests.evaluate.conftest import RATE, TONES, tone
from train.checkpoint.checkpoint import load, save

HTML = "<img src=x onerror=document.title='harmed'>"
CLASSES = (HTML, "b/b_b", "c, d")


def int16(category: str, seconds: float, rate: int = RATE) -> NDArray[np.int16]:
    return np.round(tone(category, 7, seconds=seconds, rate=rate) * 16_384).astype(np.int16)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tone of each category, silence, and what is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    for category in TONES:
        soundfile.write(folder / f"{category} {HTML.replace('/', '')}.wav", int16(category, 1.0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE, np.int16), RATE)
    (folder / "no sound.wav").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="session")
def named(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student with CLASSES and a mean."""
    path = tmp_path_factory.mktemp("named") / "named.pt"
    card = TeacherCard("none", "none", "", {}, CLASSES)
    save(path, replace(load(checkpoint), teachers={"objects": card}, training_mean={"objects": torch.ones(3) / 3}))
    return path


@pytest.fixture(scope="session")
def listener(named: Path, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Listener:
    model = EvaluatedModel.load(named, heads=True)
    base = Baseline({"objects": np.array([0.2, 0.3, 0.5])}, f"a test {HTML}")
    similar = SimilarSounds.embedded(model, "conv2", [sounds], tmp_path_factory.mktemp("out"))
    return Listener(model, base, similar, top=3)


@pytest.fixture
def server(listener: Listener) -> Iterator[ListenServer]:
    """Answering in a thread; nothing of an upload is left in its folder."""
    with ListenServer("127.0.0.1", 0) as server:
        server.listener = listener
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        folder = Path(server.folder.name)
        assert not list(folder.iterdir())
    assert not folder.exists()
