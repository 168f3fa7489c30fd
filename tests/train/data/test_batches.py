"""What lies on the device is what lies in the shards: tiled as the authors do, rolled, and given back in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.format.clip import ClipSpec
from shards.loader.batch import Batch
from shards.loader.catalog import load_catalog
from shards.loader.streaming import Streaming, sequential_reader, training_reader
from train.data.augment import Augment
from train.data.batches import IN_FLIGHT, DeviceBatches, pinned_ring
from train.model.frontend import network_input

MakeShards = Callable[..., Path]
CLIP = ClipSpec(sample_rate=10, seconds=4.0, windows=4)
CPU = torch.device("cpu")


class OneBatch:
    """A reader of one batch: a full clip, one of two windows, and one shorter than a window."""

    def __init__(self) -> None:
        self.batch = Batch(
            waveform=np.zeros((4, CLIP.samples), np.int16),
            lengths=np.array([40, 20, 7, 0], np.int32),
            windows=np.array([4, 2, 1, 0], np.int32),
            posteriors={"objects": np.zeros((4, 4, 3), np.float16)},
            clips=np.arange(3),
            position=12,
            consumed=16,
        )
        for row, (length, windows) in enumerate(zip(self.batch.lengths, self.batch.windows, strict=True)):
            self.batch.waveform[row, :length] = 100 * row + np.arange(length)
            self.batch.posteriors["objects"][row, :windows] = row + np.arange(windows)[:, None] / 8
        self.released: list[Batch] = []

    def __next__(self) -> Batch:
        return self.batch

    def release(self, batch: Batch) -> None:
        self.released.append(batch)

    def close(self) -> None:
        self.released.clear()


def tiled(values: np.ndarray, length: int, size: int) -> np.ndarray:
    """The authors' way: the clip again and again, until it is long enough."""
    return np.concatenate([values[:length]] * (size // length + 1))[:size]


def test_short_clips_are_tiled_sound_and_labels_together() -> None:
    reader = OneBatch()
    batch = next(DeviceBatches(reader, CLIP, CPU))
    assert batch.waveform.dtype == torch.int16 and (batch.clips.tolist(), batch.consumed) == ([0, 1, 2], 16)
    for row in range(3):
        length, windows = int(reader.batch.lengths[row]), int(reader.batch.windows[row])
        np.testing.assert_array_equal(batch.waveform[row], tiled(reader.batch.waveform[row], length, 40))
        expected = tiled(reader.batch.posteriors["objects"][row], windows, 4)
        np.testing.assert_array_equal(batch.posteriors["objects"][row], expected)
    assert not batch.waveform[3].any() and not batch.posteriors["objects"][3].any()
    assert reader.released == [reader.batch], "a host batch goes back as soon as it is copied"


def test_the_host_batch_may_change_once_it_is_given_back() -> None:
    reader = OneBatch()
    batch = next(DeviceBatches(reader, CLIP, CPU))
    before = batch.waveform.clone(), batch.posteriors["objects"].clone()
    reader.batch.waveform[:] = -1
    reader.batch.posteriors["objects"][:] = -1
    assert torch.equal(batch.waveform, before[0]) and torch.equal(batch.posteriors["objects"], before[1])


@pytest.mark.parametrize("windows", [4, 1])
def test_a_roll_by_samples_takes_the_labels_along_in_proportion(windows: int) -> None:
    clip, reader, augment = replace(CLIP, windows=windows), OneBatch(), Augment(roll=True)
    reader.batch.windows = np.minimum(reader.batch.windows, windows)
    reader.batch.posteriors["objects"] = reader.batch.posteriors["objects"][:, :windows].copy()
    plain = next(DeviceBatches(reader, clip, CPU))
    rolled = next(DeviceBatches(reader, clip, CPU, augment=augment, seed=5))
    shifts, _ = augment.draw(5, 12 + np.arange(4), 40)
    assert len(set(shifts[:3])) > 1 and (shifts % 10).any()
    samples = clip.window_samples
    for row in range(3):
        expected = np.roll(plain.waveform[row], -shifts[row])
        np.testing.assert_array_equal(rolled.waveform[row], expected)
        # A label for each sample, moved along with it, and each window's mean of them.
        labels = np.repeat(plain.posteriors["objects"][row].double().numpy(), samples, axis=0)
        means = np.roll(labels, -shifts[row], axis=0).reshape(windows, samples, 3).mean(axis=1)
        np.testing.assert_allclose(rolled.posteriors["objects"][row], means, rtol=1e-3)
    assert not rolled.waveform[3].any()


def test_full_scale_is_256_and_gain_multiplies() -> None:
    waveform = torch.tensor([[-32768, 0, 16384, 32767]], dtype=torch.int16)
    torch.testing.assert_close(
        network_input(waveform), torch.tensor([[-256.0, 0.0, 128.0, 255.9921875]]), rtol=0, atol=0
    )
    torch.testing.assert_close(network_input(waveform, torch.tensor([[0.5]])), network_input(waveform) / 2)
    reader, augment = OneBatch(), Augment(gain_db=6.0)
    batch = next(DeviceBatches(reader, CLIP, CPU, augment=augment, seed=5))
    assert batch.gain is not None and batch.gain.shape == (4, 1) and batch.gain.dtype == torch.float32
    np.testing.assert_allclose(batch.gain[:, 0], augment.draw(5, 12 + np.arange(4), 40)[1], rtol=1e-6)
    assert next(DeviceBatches(reader, CLIP, CPU)).gain is None


@pytest.mark.parametrize("threads", [1, 5])
def test_thread_counts_give_one_sequence_on_the_device(tmp_path: Path, make_shards: MakeShards, threads: int) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, {"train-000000": 9, "train-000001": 5})), "train")

    def sequence(threads: int, position: int, count: int) -> list[bytes]:
        ring = pinned_ring(2, 4, catalog.clip, catalog.classes, CPU)
        assert len(ring) == 2 + IN_FLIGHT
        settings = Streaming(threads=threads, prefetch=2)
        reader = training_reader(catalog, ring, settings, seed=1, batch=4, position=position)
        batches = DeviceBatches(reader, catalog.clip, CPU, augment=Augment(roll=True, gain_db=3.0), seed=1)
        assert batches.consumed == 0
        found = []
        for _ in range(count):
            batch = next(batches)
            assert batch.gain is not None
            tensors = [batch.waveform, batch.gain, *batch.posteriors.values()]
            found.append(b"".join(tensor.numpy().tobytes() for tensor in tensors))
        assert batches.consumed == position + 4 * count
        batches.close()
        return found

    assert sequence(threads, 0, 8) == sequence(2, 0, 3) + sequence(3, 12, 5)


def test_the_last_validation_batch_keeps_its_shape(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, {"validation-000000": 6})), "validation")
    ring = pinned_ring(1, 4, catalog.clip, catalog.classes, CPU)
    batches = list(DeviceBatches(sequential_reader(catalog, ring, Streaming()), catalog.clip, CPU))
    assert [batch.clips.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert {tuple(batch.waveform.shape) for batch in batches} == {(4, catalog.clip.samples)}


@pytest.mark.gpu
def test_the_copies_on_a_gpu_are_those_on_the_cpu(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, {"train-000000": 9, "train-000001": 5})), "train")

    def sequence(device: torch.device) -> list[bytes]:
        ring = pinned_ring(1, 4, catalog.clip, catalog.classes, device)
        reader = training_reader(catalog, ring, Streaming(), seed=1, batch=4)
        batches = DeviceBatches(reader, catalog.clip, device, augment=Augment(roll=True), seed=1)
        found = [next(batches).waveform.cpu().numpy().tobytes() for _ in range(40)]
        batches.close()
        return found

    assert sequence(torch.device("cuda")) == sequence(CPU)
