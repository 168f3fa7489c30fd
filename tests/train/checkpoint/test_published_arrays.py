"""The restricted reader gives what numpy's own reader gives, and runs nothing of what that one would run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.errors import UserError
from train.checkpoint.published_arrays import read_arrays

RANDOM = np.random.default_rng(0)
LAYERS: dict[str, dict[str, NDArray[np.float32]]] = {
    "conv1": {
        "weights": np.asfortranarray(RANDOM.normal(size=(5, 1, 3, 4)).astype(np.float32)),
        "biases": RANDOM.normal(size=4).astype(np.float32),
    },
    "conv2": {"weights": RANDOM.normal(size=(2, 1, 4, 6)).astype(np.float32)},
}


def test_the_arrays_are_those_that_numpy_reads(python2: Any) -> None:
    data = python2.published(LAYERS)
    by_numpy = np.load(io.BytesIO(data), allow_pickle=True, encoding="latin1").item()
    for found in (by_numpy, read_arrays(data)):
        assert {layer: list(arrays) for layer, arrays in found.items()} == {
            "conv1": ["weights", "biases"],
            "conv2": ["weights"],
        }
        for layer, arrays in LAYERS.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(found[layer][name], array)


def calling(python2: Any, function: str, argument: str = "x") -> bytes:
    """A file whose pickle calls a function with one word."""
    data: bytes = python2.file(f"c{function}\n(S'{argument}'\ntR".encode())
    return data


def holding(python2: Any, shape: tuple[int, ...], code: str, order: str, contents: bytes) -> bytes:
    """A file with one array of that description."""
    array = python2.stored(shape, python2.element_type(code, order), contents)
    data: bytes = python2.file(python2.dictionary({"conv1": python2.dictionary({"weights": array})}))
    return data


def plain_array(_: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    return stream.getvalue()


EIGHT_BYTES = b"U\x08" + b"1" * 8
HOSTILE: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "os.system": (lambda py: calling(py, "posix\nsystem"), r"it names posix\.system"),
    "eval": (lambda py: calling(py, "__builtin__\neval"), "it names"),
    "numpy's own functions": (lambda py: calling(py, "numpy\nfromfile"), r"it names numpy\.fromfile"),
    "an attribute of a known name": (
        lambda py: py.file(b"\x8c\x05numpy\x8c\x10ndarray.__init__\x93"),
        r"it names numpy\.ndarray\.__init__",
    ),
    "a call of a known name": (lambda py: calling(py, "numpy\nndarray"), "not callable"),
    "a state for a known name": (lambda py: py.file(b"cnumpy\nndarray\n}U\x01aK\x01sb"), ""),
    "a persistent id": (lambda py: py.file(b"Pconv1\n"), "persistent"),
    "an extension code": (lambda py: py.file(b"\x82\x01"), "extension"),
    "an object array inside": (lambda py: holding(py, (1,), "O8", "|", b"](K\x01e"), "not little-endian float32"),
    "doubles": (lambda py: holding(py, (1,), "f8", "<", EIGHT_BYTES), "not little-endian float32"),
    "big-endian": (lambda py: holding(py, (2,), "f4", ">", EIGHT_BYTES), "not little-endian float32"),
    "fewer bytes than the shape": (lambda py: holding(py, (3,), "f4", "<", EIGHT_BYTES), "cannot reshape"),
    "a shape left open": (lambda py: holding(py, (-1,), "f4", "<", EIGHT_BYTES), "no plain numbers"),
    "numbers for bytes": (lambda py: holding(py, (2,), "f4", "<", b"](K\x01K\x02e"), "no plain numbers"),
    "a number for a layer": (lambda py: py.file(py.dictionary({"conv1": b"K\x01"})), "items"),
    "two dictionaries": (lambda py: py.file(py.dictionary({}) + py.dictionary({})), "too many values"),
    "something behind": (lambda py: py.published(LAYERS) + b"x", "something follows"),
    "half a file": (lambda py: py.published(LAYERS)[:400], "truncated"),
    "a plain array": (plain_array, "instead of one object"),
    "no array at all": (lambda py: b"hello", "magic"),
}


@pytest.mark.parametrize("variant", HOSTILE)
def test_anything_else_is_refused_in_one_line(variant: str, python2: Any) -> None:
    made, reason = HOSTILE[variant]
    with pytest.raises(UserError, match=f"this is not the published array file: .*{reason}") as caught:
        read_arrays(made(python2))
    assert "\n" not in str(caught.value)


def test_nothing_runs_that_an_ordinary_reader_would_run(python2: Any, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    data = calling(python2, "posix\nsystem", f"touch {marker}")
    with pytest.raises(UserError):
        read_arrays(data)
    assert not marker.exists()
    np.load(io.BytesIO(data), allow_pickle=True, encoding="latin1")
    assert marker.exists()
