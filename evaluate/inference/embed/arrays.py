"""Arrays too long for memory: a .npy that grows row by row, and several of them joined into one .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from shards.files import replacing

ROWS_AT_A_TIME = 65_536


class GrowingArray:
    """Rows of one shape and type on their way into `path`, which is there once all are: finished means renamed.

    Left through an exception, nothing is there.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._shape: tuple[int, ...] = ()
        self._type: np.dtype[np.generic] = np.dtype(np.float32)

    def __enter__(self) -> GrowingArray:
        with ExitStack() as stack:
            self._stream = stack.enter_context(open(stack.enter_context(replacing(self.path)), "wb"))
            self._closing = stack.pop_all()
        return self

    def append(self, rows: NDArray[np.generic]) -> None:
        """Write (rows, ...). The first ones decide type and shape of all."""
        if not self.rows:
            self._type, self._shape = rows.dtype, rows.shape[1:]
            self._write_header()
        if (rows.dtype, rows.shape[1:]) != (self._type, self._shape):
            raise ValueError(f"rows of {rows.shape[1:]} do not go with {self._shape}")
        self._stream.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._closing.__exit__(kind, error, trace)
            return
        with self._closing:
            self._stream.seek(0)
            self._write_header()  # as long as before: numpy leaves room for the first axis to grow

    def _write_header(self) -> None:
        npy.write_array_header_1_0(self._stream, _header(self._type, (self.rows, *self._shape)))


def join(out: Path, long: Mapping[str, Sequence[Path]], short: Mapping[str, NDArray[np.generic]]) -> None:
    """An .npz of `long` arrays, each the rows of several .npy files one behind the other, and of `short` ones."""
    with replacing(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in short.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array(member, array, allow_pickle=False)
        for name, paths in long.items():
            arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
                npy.write_array_header_1_0(member, _header(arrays[0].dtype, shape))
                for array in arrays:
                    for start in range(0, len(array), ROWS_AT_A_TIME):
                        member.write(np.ascontiguousarray(array[start : start + ROWS_AT_A_TIME]).data)


def _header(kind: np.dtype[np.generic], shape: tuple[int, ...]) -> dict[str, object]:
    return {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
