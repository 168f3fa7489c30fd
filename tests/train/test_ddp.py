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

from shards.errors import UserError
from shards.loader.catalog import load_catalog
from shards.loader.streaming import Streaming, training_reader
from tests.faults.commands import finish, one_line, ranks, state, training, two_ranks, wait_until
from tests.forked import Forked
from train.checkpoint.checkpoint import build, load
from train.data.batches import DeviceBatches, pinned_ring
from train.device.torchrun import ranks_of
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
    assert steps == [0, 1, 2, 3, 4, 5, 6, 6]
    videos = json.loads((run / "validation.json").read_text())
    assert videos["clips"] == 5 and videos["mean"]["objects/kl"] > 0


@pytest.mark.faults  # slow: two ranks four times
def test_ranks_with_parts_of_a_batch_and_short_gradients_are_one_process_with_as_many_parts(
    shards: Path, tmp_path: Path
) -> None:
    """Each part is normalised by itself, wherever it is computed: 2 ranks with 2 parts each, or one process with 4."""
    how = {"steps": STEPS, "validate_every": 0, "lr": 0.01, "schedule": "cosine", "warmup": 2}
    runs = {"ranks": {"accumulate": 2, "clip_norm": 0.05}, "one": {"accumulate": 4, "clip_norm": 0.05}}
    networks = {}
    for name, each in (runs | {"long gradients": {"accumulate": 4}}).items():
        words = training(shards, tmp_path / name, **how, **each)
        for process in two_ranks(words, Forked) if name == "ranks" else [Forked("train", *words)]:
            finish(process, seconds=100)
        networks[name] = load(tmp_path / name / "last.pt").network
    for name, tensor in networks["one"].items():
        if name.endswith(("conv.bias", "_mean", "_var", "_tracked")):  # no gradient but rounding, and rank 0's own
            continue
        torch.testing.assert_close(networks["ranks"][name], tensor, rtol=1e-4, atol=2e-6)
    weight = "blocks.conv2.conv.weight"
    assert (networks["long gradients"][weight] - networks["one"][weight]).abs().max() > 1e-3


@pytest.mark.faults
def test_three_ranks_go_on_bit_by_bit(shards: Path, tmp_path: Path) -> None:
    """Three numbers have different sums in different orders: the order must be that of the undisturbed run."""
    for run, parts in (("whole", [6]), ("parts", [3, 6])):
        for steps in parts:
            words = training(shards, tmp_path / run, **EVERY | {"steps": steps, "batch": 9, "validate_every": 0})
            for rank in ranks([words] * 3, Forked):
                finish(rank, seconds=100)
    assert state(tmp_path / "parts") == state(tmp_path / "whole")


def test_one_held_out_clip_is_measured_though_the_second_rank_has_none(tmp_path: Path, make_shards: MakeShards) -> None:
    shards, run = make_shards(tmp_path / "shards", {"train-000000": 9, "validation-000000": 1}), tmp_path / "run"
    for rank in two_ranks(training(shards, run, steps=2, validate_every=2), Forked):
        finish(rank, seconds=100)
    best = load(run / "best.pt")
    assert best.held_out is not None and best.best == pytest.approx(
        best.held_out["mean"]["objects/kl"] + best.held_out["mean"]["scenes/kl"]
    )
    assert best.held_out["clips"] == 1 and best.best > 0


@pytest.mark.faults
def test_a_rank_whose_folder_holds_no_run_goes_on_where_rank_0_is(shards: Path, tmp_path: Path) -> None:
    """As on machines that share no file system."""
    whole, run, elsewhere = tmp_path / "whole", tmp_path / "run", tmp_path / "elsewhere"
    for folder, other, steps in ((whole, whole, 6), (run, run, 3), (run, elsewhere, 6)):
        words = [training(shards, place, **EVERY | {"steps": steps}) for place in (folder, other)]
        for rank in two_ranks(words[0], Forked, others=words[1]):
            finish(rank, seconds=100)
    assert state(run) == state(whole)
    assert not elsewhere.exists(), "rank 0 alone writes"


def test_ranks_of_two_runs_refuse_with_both_sides(shards: Path, tmp_path: Path, make_shards: MakeShards) -> None:
    other = make_shards(tmp_path / "other", {"train-000000": 21, "validation-000000": 5}, seed=3)
    run = tmp_path / "run"
    mine = training(shards, run, **EVERY)
    for rank in two_ranks(mine, Forked, others=training(other, run, **EVERY | {"lr": 0.5})):
        line = one_line(finish(rank, code=1, seconds=100))
        assert "rank 1 has 0.5, rank 0 0.001" in line and "shards (hash of their contents): rank 1 has" in line
        assert "held-out shards" in line and "the same command on the same shards" in line
    assert not run.exists()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set: start them with torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "LOCAL_RANK is not set"),
        ({"WORLD_SIZE": "many", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "numbers"),
    ],
)
def test_half_of_what_torchrun_says_is_refused_in_one_line(
    place: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said), ranks_of("cpu"):
        pass


@pytest.mark.faults
def test_torchrun_passes_sigterm_on_and_the_next_run_ends(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = ["--standalone", "--nproc-per-node", "2", "-m", "train"]
    never = {"validate_every": 0, "save_every": 10**6, "log_every": 1}
    process = Forked("torch.distributed.run", *torchrun, *training(shards, run, **never | {"steps": 10**6}))
    wait_until(lambda: (run / "metrics.jsonl").exists() and "loss" in (run / "metrics.jsonl").read_text(), process)
    process.send_signal(signal.SIGTERM)
    finish(process, code=1, seconds=100)  # torchrun's own, whatever its ranks end with
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    position = load(run / "last.pt").position
    assert position is not None and rows[-1] == {"step": position["step"], "stopped": "SIGTERM"}
    steps = position["step"] + 2
    for rank in two_ranks(training(shards, run, **never | {"steps": steps}), Forked):
        finish(rank)
    assert load(run / "last.pt").position == {"step": steps, "consumed": steps * BATCH, "seed": 0}


SIGNALLED = """
import os, runpy, signal
from train.trainer.trainer import Trainer

def measured(trainer, catalog):
    if trainer.ranks.rank == 1 and trainer.batches.consumed == 24:
        os.kill(os.getpid(), signal.SIGTERM)
    return measure(trainer, catalog)

measure, Trainer._measured = Trainer._measured, measured
runpy.run_module("train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.faults
def test_a_signal_to_one_rank_breaks_a_validation_off_on_both_and_it_is_made_up_for(
    shards: Path, tmp_path: Path
) -> None:
    def signalled(module: str, *words: str, **place: str) -> Forked:
        return Forked("-c", SIGNALLED, *words, **place)

    every = EVERY | {"save_every": 100}
    run, whole = tmp_path / "run", tmp_path / "whole"
    for rank in two_ranks(training(shards, run, steps=STEPS, **every), signalled):
        finish(rank, code=75, seconds=100)
    assert load(run / "last.pt").position == {"step": 3, "consumed": 24, "seed": 0}
    for folder in (run, whole):
        for rank in two_ranks(training(shards, folder, steps=STEPS, **every), Forked):
            finish(rank, seconds=100)
    assert state(run) == state(whole)
    steps = [row["step"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
    assert steps == [0, 1, 2, 3, 3, 4, 6, 6], "at 3 it is said that it was stopped, then it is measured"


def test_a_signal_to_one_rank_stops_both_at_one_step(shards: Path, tmp_path: Path) -> None:
    run, never = tmp_path / "run", {"validate_every": 10**6, "save_every": 10**6}
    ranks = two_ranks(training(shards, run, steps=10**6, log_every=2, **never), Forked)
    wait_until(lambda: (run / "metrics.jsonl").exists() and "loss" in (run / "metrics.jsonl").read_text(), *ranks)
    ranks[1].send_signal(signal.SIGTERM)
    for rank in ranks:
        finish(rank, code=75, seconds=60)
    position = load(run / "last.pt").position
    assert position is not None and position["consumed"] == BATCH * position["step"] > 0
