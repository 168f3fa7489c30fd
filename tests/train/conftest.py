"""Shared by tests of this stage: a student of three layers, shards of a few seconds, files as Python 2 wrote them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.shards.conftest import CLIP, Content, MakeShards, Random, write_shards
from train.model.layers import Layer, StudentSpec
from train.settings import TrainSettings


@pytest.fixture
def spec() -> StudentSpec:
    """2000 samples / 250 / 62 / 15 / 4 steps."""
    layers = [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4), Layer("conv2", 8, 4, 4, 12)]
    return StudentSpec("tiny", layers, Layer("conv3", 6, 3))


CLIPS = {"train-000000": 20, "train-000001": 15, "validation-000000": 7}


@pytest.fixture
def shards(tmp_path: Path, make_shards: MakeShards) -> Path:
    return make_shards(tmp_path / "shards", CLIPS)


@pytest.fixture
def settings(tmp_path: Path, spec: StudentSpec, shards: Path) -> TrainSettings:
    return TrainSettings(
        shards=str(shards),
        student=spec,
        run=tmp_path / "run",
        device="cpu",
        compile=False,
        batch=8,
        steps=20,
        log_every=5,
        validate_every=20,
        save_every=8,
    )


def rows(run_folder: Path | None) -> list[dict[str, Any]]:
    assert run_folder is not None
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves, which takes three quarters of a short one's time."""
    monkeypatch.setattr("train.trainer.journal.draw_curves", lambda rows, path: None)


@pytest.fixture
def make_shards() -> MakeShards:
    """make_shards(folder, {"train-000000": 5, ...}): a tone per class, which posteriors name; a third are short."""
    return write_tones


def write_tones(
    folder: Path,
    clips: Mapping[str, int],
    *,
    seed: int = 0,
    loud: float = 8000.0,
    spacing_hertz: int = 60,
    **shards: Any,
) -> Path:
    def content(random: Random, windows: int, heads: Mapping[str, int]) -> Content:
        samples, tone = np.arange(CLIP.window_samples * windows), int(random.integers(5))
        sound = loud * np.sin(2 * np.pi * samples * (20 + spacing_hertz * tone) / CLIP.sample_rate)
        waveform = (sound + random.normal(0, loud / 20, len(samples))).astype(np.int16)
        weights = {head: np.where(np.arange(classes) == tone, 20.0, 1.0) for head, classes in heads.items()}
        return waveform, {head: random.dirichlet(each, windows).astype(np.float16) for head, each in weights.items()}

    return write_shards(folder, clips, seed=seed, content=content, **shards)


class Python2:
    """Pickle's protocol 2, opcode by opcode, as Python 2 and its numpy wrote it: the layout of the published weights.

    Each method but the last two gives the bytes that leave one value on the reader's stack.
    """

    def word(self, text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    def number(self, value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def dictionary(self, entries: Mapping[str, bytes]) -> bytes:
        return b"}(" + b"".join(self.word(key) + value for key, value in entries.items()) + b"u"

    def element_type(self, code: str, order: str) -> bytes:
        new = b"cnumpy\ndtype\n" + self.word(code) + b"K\x00K\x01\x87R"
        flags = b"\x3f" if code == "O8" else b"\x00"  # 63: numpy's mark of an element type that holds objects
        return new + b"(K\x03" + self.word(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + flags + b"tb"

    def stored(
        self, shape: tuple[int, ...], element_type: bytes, contents: bytes, fortran_order: bool = False
    ) -> bytes:
        new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + self.word("b") + b"\x87R"
        order = b"\x88" if fortran_order else b"\x89"
        return new + b"(K\x01(" + b"".join(map(self.number, shape)) + b"t" + element_type + order + contents + b"tb"

    def array(self, array: NDArray[np.float32]) -> bytes:
        fortran_order = array.flags.f_contiguous and array.ndim > 1
        data = array.tobytes("F" if fortran_order else "C")
        contents = b"T" + struct.pack("<i", len(data)) + data
        return self.stored(array.shape, self.element_type("f4", "<"), contents, fortran_order)

    def file(self, contents: bytes) -> bytes:
        """A whole .npy: a 0-d object array around `contents`, as numpy.save left it."""
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        outer = self.stored((), self.element_type("O8", "|"), b"](" + contents + b"e")
        return stream.getvalue() + b"\x80\x02" + outer + b"."

    def published(self, layers: Mapping[str, Mapping[str, NDArray[np.float32]]]) -> bytes:
        """A whole file of {layer: {name: array}}."""
        inner = {
            layer: self.dictionary({name: self.array(each) for name, each in arrays.items()})
            for layer, arrays in layers.items()
        }
        return self.file(self.dictionary(inner))


@pytest.fixture(scope="session")
def python2() -> Python2:
    return Python2()
