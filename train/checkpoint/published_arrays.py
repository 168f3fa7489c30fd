"""The array file of the published weights: a Python 2 pickle inside a .npy, read without executing any of it."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError

Arrays = dict[str, dict[str, NDArray[np.float32]]]  # layer -> name -> array, as in the file


def read_arrays(array_file: bytes) -> Arrays:
    """The arrays of sound8.npy, nothing executed. Raises UserError for anything that is not laid out like it."""
    stream = io.BytesIO(array_file)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another npy version")
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        if shape != () or kind != np.dtype(object):
            raise ValueError(f"a {kind} array {shape} instead of one object")
        # Strings of Python 2 stay bytes, as the arrays' contents are; layer names are turned into words below.
        stored = _Reader(stream, encoding="bytes").load()
        if stream.read(1):
            raise ValueError("something follows the pickle")
        (layers,) = stored.state[4]
        return {
            layer.decode("ascii"): {name.decode("ascii"): array.array() for name, array in arrays.items()}
            for layer, arrays in layers.items()
        }
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())  # some of the pickle module's own messages run over two lines
        raise UserError(f"this is not the published array file: {reason}") from None


class _StoredType:
    """What the file says of an array's element type: numpy.dtype(code, align, copy) and its state."""

    def __init__(self, code: bytes, align: int, copy: int) -> None:
        self.code, self.order = code, b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _StoredArray:
    """What the file says of an array: an empty numpy.ndarray and then its state."""

    state: tuple[Any, ...] = ()

    def __init__(self, kind: object, shape: object, code: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> NDArray[np.float32]:
        """The float32 array, in the memory order it says: most here are Fortran's. Raises ValueError."""
        _, shape, kind, fortran_order, data = self.state
        if not isinstance(kind, _StoredType) or (kind.code, kind.order) != (b"f4", b"<"):
            raise ValueError("an array is not little-endian float32")
        if (
            not isinstance(data, bytes)
            or not isinstance(shape, tuple)
            or not all(type(n) is int and n > 0 for n in shape)
        ):
            raise ValueError("an array holds no plain numbers")
        return np.frombuffer(data, "<f4").reshape(shape, order="F" if fortran_order else "C")


KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _StoredArray,
    ("numpy", "dtype"): _StoredType,
    ("numpy", "ndarray"): None,
}


class _Reader(pickle.Unpickler):
    """Knows three names and gives records for them, so that neither foreign code nor numpy's own unpickling runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return KNOWN[module, name]
