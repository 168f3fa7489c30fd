"""Shared-memory slots for decoded pictures: one clip a slot, written by a decode worker, read by a teacher process."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.crop import ResizeCrop


class Slots:
    """`count` slots, each room for `frames` pictures of every crop, (frames, crop, crop, 3) uint8 one after another.

    A process that is started with it as an argument shares its memory. That has no name: it goes with the last process
    that holds it, however that ends, and no size of /dev/shm limits it.
    """

    def __init__(self, file: int, crops: Sequence[ResizeCrop], frames: int, count: int) -> None:
        self.crops, self.frames, self.count = list(crops), frames, count
        self._file = file
        self._memory = mmap.mmap(file, count * slot_bytes(crops, frames))

    @classmethod
    def create(cls, crops: Sequence[ResizeCrop], frames: int, count: int) -> Slots:
        file = _nameless_file()
        os.truncate(file, count * slot_bytes(crops, frames))
        return cls(file, crops, frames, count)

    def __reduce__(self) -> tuple[Callable[..., Slots], tuple[object, ...]]:
        """For a process that is being started, and nothing else: it inherits the file."""
        return _attached, (DupFd(self._file), self.crops, self.frames, self.count)

    def pictures(self, slot: int, frames: int) -> list[NDArray[np.uint8]]:
        """Arrays in the memory, for writing and for reading: (frames, crop, crop, 3) for every crop."""
        arrays, offset = [], slot * slot_bytes(self.crops, self.frames)
        for geometry in self.crops:
            shape = (frames, geometry.crop, geometry.crop, 3)
            arrays.append(np.ndarray(shape, np.uint8, self._memory, offset))
            offset += slot_bytes([geometry], self.frames)
        return arrays

    def close(self) -> None:
        """Give up the file; the memory goes with the last array in it."""
        os.close(self._file)


def _attached(file: Any, crops: list[ResizeCrop], frames: int, count: int) -> Slots:
    return Slots(file.detach(), crops, frames, count)


def _nameless_file() -> int:
    """A file in memory; where the system has none (macOS), one on disk whose name is gone."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("soundnet-slots")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


def slot_bytes(crops: Sequence[ResizeCrop], frames: int) -> int:
    return frames * sum(geometry.crop * geometry.crop * 3 for geometry in crops)
