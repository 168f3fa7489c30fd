"""The benchmark counts the windows it compares with, and refuses layers that a window does not reach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluate.bench.features import RECORDINGS, compare
from shards.errors import UserError
from train.checkpoint.checkpoint import load_network
from train.model.layers import Layer, StudentSpec
from train.model.student import Student


def test_whole_recordings_are_faster_than_their_windows(checkpoint: Path) -> None:
    torch.set_num_threads(1)
    network, _ = load_network(checkpoint)
    whole, windows, count = compare(network, "conv2")
    assert count == RECORDINGS * 25  # 1 s each, 0.37 s apart, in 10 s
    assert 0 < whole < windows


def test_a_layer_that_needs_more_than_a_window_is_refused() -> None:
    deep = StudentSpec("deep", [Layer("conv1", 9000, 100, 0, 2)], Layer("conv2", 1, 1))
    with pytest.raises(UserError, match="conv1 of deep needs at least 9000 samples"):
        compare(Student(deep, {"objects": 2}, sample_rate=8000), "conv1")
