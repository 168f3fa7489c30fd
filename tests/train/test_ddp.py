"""Two gloo processes are one run: the same stream in halves, gradients averaged, one writer, one step to stop at.

The reference is one process that normalises the two halves of each batch separately, as two CPU ranks do
(SyncBatchNorm, which GPUs get, takes no CPU tensors).
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shards.loader.catalog import load_catalog
from shards.loader.streaming import Streaming, training_reader
from tests.faults.commands import finish, training, two_ranks, wait_until
from tests.forked import Forked
from train.checkpoint.checkpoint import build, load
from train.data.batches import DeviceBatches, pinned_ring
from train.model.frontend import network_input
from train.model.layers import StudentSpec
from train.trainer.losses import kl

MakeShards = Callable[..., Path]
CPU = torch.device("cpu")
STEPS, BATCH = 6, 8

EVERY = {"log_every": 2, "validate_every": 3, "save_every": 3}


@pytest.fixture
def shards(tmp_path: Path, make_shards: MakeShards) -> Path:
    return make_shards(tmp_path / "shards", {"train-000000": 9, "train-000001": 12, "validation-000000": 5})


def reference(shards: Path, spec: StudentSpec) -> dict[str, torch.Tensor]:
    """One process, two half batches, each normalised by itself; the running statistics are the first half's."""
    catalog = load_catalog(str(shards), "train")
    ring = pinned_ring(2, BATCH, catalog.clip, catalog.classes, CPU)
    batches = DeviceBatches(training_reader(catalog, ring, Streaming(), seed=0, batch=BATCH), catalog.clip, CPU)
    network = build(spec, catalog.classes, sample_rate=catalog.clip.sample_rate)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.999))
    for _ in range(STEPS):
        batch = next(batches)
        adam.zero_grad()
        for half in (slice(0, 4), slice(4, 8)):
            statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
            posteriors = {head: posterior[half] for head, posterior in batch.posteriors.items()}
            (kl(network(network_input(batch.waveform[half])), posteriors) / 2).backward()  # type: ignore[no-untyped-call]
            if half.start:
                for name, buffer in network.named_buffers():
                    buffer.copy_(statistics[name])
        adam.step()
    batches.close()
    return network.state_dict()


def test_two_ranks_are_one_process_with_two_half_batches(shards: Path, tmp_path: Path, spec: StudentSpec) -> None:
    run = tmp_path / "run"
    logged = [finish(rank, seconds=100) for rank in two_ranks(training(shards, run, steps=STEPS, **EVERY), Forked)]
    checkpoint = load(run / "last.pt")
    expected = reference(shards, spec)
    assert checkpoint.network.keys() == expected.keys()
    for name, tensor in expected.items():
        # A bias in front of batch norm has no gradient but rounding, of which Adam makes steps of lr all the same; the
        # running mean follows the bias. Everything else must be equal.
        idle = name.startswith("blocks.") and name.endswith((".conv.bias", ".running_mean"))
        torch.testing.assert_close(checkpoint.network[name], tensor, rtol=1e-4, atol=2e-3 * STEPS if idle else 2e-6)
    assert checkpoint.position == {"step": STEPS, "consumed": STEPS * BATCH, "seed": 0}

    assert "held out: objects KL" in logged[0] and logged[1] == "", "only rank 0 logs, and it alone writes"
    steps = [row["step"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
    assert steps == [2, 3, 4, 6, 6]
    videos = json.loads((run / "validation.json").read_text())
    assert videos["clips"] == 5 and videos["mean"]["objects/kl"] > 0


def test_a_signal_to_one_rank_stops_both_at_one_step(shards: Path, tmp_path: Path) -> None:
    run, never = tmp_path / "run", {"validate_every": 10**6, "save_every": 10**6}
    ranks = two_ranks(training(shards, run, steps=10**6, log_every=2, **never), Forked)
    wait_until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text(), *ranks)
    ranks[1].send_signal(signal.SIGTERM)
    for rank in ranks:
        finish(rank, code=75, seconds=60)
    position = load(run / "last.pt").position
    assert position is not None and position["consumed"] == BATCH * position["step"] > 0
