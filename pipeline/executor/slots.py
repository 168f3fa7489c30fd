"""Shared-memory slots for decoded pictures: one clip a slot, written by a decode worker, read by a teacher process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder.crop import ResizeCrop
from shards.errors import UserError

SHARED_MEMORY = Path("/dev/shm")


class Slots:
    """`count` slots, each room for `frames` pictures of every crop, (frames, crop, crop, 3) uint8 one after another."""

    def __init__(self, memory: SharedMemory, crops: Sequence[ResizeCrop], frames: int, count: int) -> None:
        self.memory, self.crops, self.frames, self.count = memory, list(crops), frames, count

    @classmethod
    def create(cls, crops: Sequence[ResizeCrop], frames: int, *, wanted: int, least: int) -> Slots:
        """As many slots as wanted, at most half of what /dev/shm has free. Raises UserError below `least`."""
        size = slot_bytes(crops, frames)
        free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else wanted * size * 2
        count = min(wanted, free // 2 // size)
        if count < least:
            raise UserError(
                f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free, one batch of {least} clips needs twice "
                f"{least * size / 1e6:.0f} MB: give batch_clips a smaller value, or the container more shared memory"
            )
        return cls(SharedMemory(create=True, size=count * size), crops, frames, count)

    @classmethod
    def attach(cls, name: str, crops: Sequence[ResizeCrop], frames: int, count: int) -> Slots:
        return cls(SharedMemory(name), crops, frames, count)

    def pictures(self, slot: int, frames: int) -> list[NDArray[np.uint8]]:
        """Arrays in the memory, for writing and for reading: (frames, crop, crop, 3) for every crop."""
        arrays, offset = [], slot * slot_bytes(self.crops, self.frames)
        for geometry in self.crops:
            shape = (frames, geometry.crop, geometry.crop, 3)
            arrays.append(np.ndarray(shape, np.uint8, self.memory.buf, offset))
            offset += slot_bytes([geometry], self.frames)
        return arrays

    def close(self) -> None:
        self.memory.close()

    def destroy(self) -> None:
        self.memory.close()
        self.memory.unlink()


def slot_bytes(crops: Sequence[ResizeCrop], frames: int) -> int:
    return frames * sum(geometry.crop * geometry.crop * 3 for geometry in crops)
