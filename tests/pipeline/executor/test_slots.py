"""Slots of shared memory: what is written is read through another attachment, and no slot reaches into the next."""

import numpy as np
import pytest

from pipeline.decoder.crop import ResizeCrop
from pipeline.executor.slots import Slots
from shards.errors import UserError

CROPS = [ResizeCrop(40, 32), ResizeCrop(48, 48)]


def test_every_slot_holds_its_own_pictures():
    slots = Slots.create(CROPS, 4, wanted=3, least=1)
    try:
        reader = Slots.attach(slots.memory.name, CROPS, 4, slots.count)
        for slot in range(3):
            for number, pictures in enumerate(slots.pictures(slot, 4)):
                pictures[:] = 10 * slot + number
        for slot in range(3):
            full, short = reader.pictures(slot, 4), reader.pictures(slot, 1)
            assert [pictures.shape for pictures in full] == [(4, 32, 32, 3), (4, 48, 48, 3)]
            assert [pictures.shape for pictures in short] == [(1, 32, 32, 3), (1, 48, 48, 3)]
            assert [np.unique(pictures).tolist() for pictures in full] == [[10 * slot], [10 * slot + 1]]
        reader.close()
    finally:
        slots.destroy()


def test_too_little_shared_memory_says_how_much_is_needed():
    with pytest.raises(UserError, match=r"one batch of 1000000000 clips needs .* give batch_clips a smaller value"):
        Slots.create(CROPS, 4, wanted=10**9, least=10**9)
