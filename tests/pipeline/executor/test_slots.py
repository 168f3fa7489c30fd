"""Slots of shared memory: another process reads what is written, no slot reaches into the next, no name is left."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.decoder.crop import ResizeCrop
from pipeline.executor.decode_worker import spawn
from pipeline.executor.slots import Slots
from tests.faults.commands import shared_mappings

CROPS = [ResizeCrop(40, 32), ResizeCrop(48, 48)]


@pytest.fixture
def slots():
    slots = Slots.create(CROPS, 4, 3)
    yield slots
    slots.close()


def write(pipe, slots):
    """In another process: each slot's pictures get a number of their own."""
    for slot in range(3):
        for number, pictures in enumerate(slots.pictures(slot, 4)):
            pictures[:] = 10 * slot + number
    pipe.send(None)


def test_every_slot_holds_its_own_pictures(slots):
    process, pipe = spawn(write, slots)
    pipe.recv()
    process.join()
    for slot in range(3):
        full, short = slots.pictures(slot, 4), slots.pictures(slot, 1)
        assert [pictures.shape for pictures in full] == [(4, 32, 32, 3), (4, 48, 48, 3)]
        assert [pictures.shape for pictures in short] == [(1, 32, 32, 3), (1, 48, 48, 3)]
        assert [np.unique(pictures).tolist() for pictures in full] == [[10 * slot], [10 * slot + 1]]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is mapped")
def test_the_memory_has_no_name_that_could_outlive_us(slots):
    place = np.ndarray(1, np.uint8, slots._memory).ctypes.data
    (name,) = (name for begin, end, name in shared_mappings("self") if begin <= place < end)
    assert not Path(name).exists()
