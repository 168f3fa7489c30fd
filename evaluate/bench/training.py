"""What a training step costs, and what the loop around it adds: `make bench-train device=cpu batch=4 steps=3`.

The contestants take turns and ratios are medians over the rounds. Shards are made on the spot and in the page cache.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evaluate.bench.loading import Load, compare, make_shards, report
from shards.cli.command import command
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.streaming import Streaming, training_reader
from train.checkpoint.checkpoint import build
from train.data.batches import DeviceBatch, DeviceBatches, pinned_ring
from train.device.device import Compile, Precision, arithmetic, compiler, require_device
from train.model.frontend import Frontend
from train.model.layers import StudentSpec
from train.trainer.loop import GradientDescent, train
from train.trainer.losses import kl
from train.trainer.meter import Meter
from train.trainer.trainer import predictor

LOOP_TARGET = 1.03  # times the bare step
PAPER_STEPS = 100_000  # section 3.4, of 64 clips
# An activation is written, read by the next layer and once more by the backward pass; its gradient is written and read.
PASSES = 5


@dataclass
class BenchSettings:
    """conf/bench_train.yaml."""

    student: StudentSpec  # the network to train
    device: str = "cuda"  # cuda or cpu
    batch: int = 64  # clips of a training step
    steps: int = 30  # steps of one measurement
    rounds: int = 5  # rounds, in each of which everything is timed once
    clips: int = 512  # clips to make and read, 0.9 MB each
    workers: int = 4  # reading threads, and processes of PyTorch's DataLoader beside them
    precision: Precision = "auto"  # what the device computes in; auto: bf16 where it has it
    compile: Compile = "auto"  # compile the network: true, false, or auto (where it works)


class Bench:
    """One network on one device, and ways of taking steps with it."""

    def __init__(self, settings: BenchSettings, catalog: Catalog) -> None:
        self._settings, self._catalog = settings, catalog
        self.device = require_device(settings.device)
        self.autocast = arithmetic(self.device, settings.precision)
        network = build(settings.student, catalog.classes, sample_rate=catalog.clip.sample_rate).to(self.device)
        self._initial = copy.deepcopy(network.state_dict())
        self._optimizer = torch.optim.Adam(network.parameters(), fused=True)
        self.frontend = Frontend(network)
        self._eager, self._loss = predictor(self.frontend, lambda function: function), kl
        compiled = compiler(settings.compile, self.device)
        self.fast = predictor(self.frontend, compiled), compiled(kl)
        batches = self._batches()
        self.held = [next(batches) for _ in range(2)]
        batches.close()

    def bare(self) -> float:
        """Seconds a step of forward, loss, backward and optimizer alone, on data that is on the device already."""
        return self.seconds_a_step(partial(self.take_steps, *self.fast))

    def eager(self) -> float:
        """The same without the compiler."""
        return self.seconds_a_step(partial(self.take_steps, self._eager, self._loss))

    def loop(self) -> float:
        """Seconds a step of the training loop, from the shards on."""
        batches = self._batches()
        self._train(batches, steps=1)  # the reader's threads are at work, as they are in the middle of a run
        seconds = self.seconds_a_step(partial(self._train, batches))
        batches.close()
        return seconds

    def begin_anew(self) -> None:
        """The weights as they were drawn, and an optimizer that has seen no step."""
        self.frontend.network.load_state_dict(self._initial)
        self._optimizer.state.clear()

    def flops(self) -> int:
        """Of one step, forward and backward, multiplications and additions each counted."""
        with FlopCounterMode(display=False) as counter:
            self.take_steps(self._eager, self._loss, steps=1)
        return int(counter.get_total_flops())

    def _batches(self) -> DeviceBatches:
        catalog, settings = self._catalog, self._settings
        streaming = Streaming(threads=settings.workers)
        ring = pinned_ring(streaming.prefetch, settings.batch, catalog.clip, catalog.classes, self.device)
        reader = training_reader(catalog, ring, streaming, seed=0, batch=settings.batch)
        return DeviceBatches(reader, catalog.clip, self.device)

    def take_steps(self, network: Callable[[DeviceBatch], Any], loss: Callable[..., Tensor], steps: int) -> None:
        for batch in itertools.islice(itertools.cycle(self.held), steps):
            with self.autocast():
                distance = loss(network(batch), batch.posteriors)
            distance.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def _train(self, batches: DeviceBatches, steps: int) -> None:
        network, loss = self.fast
        descent = GradientDescent(
            network,
            lambda logits, batch: loss(logits, batch.posteriors),
            self._optimizer,
            autocast=self.autocast,
        )
        train(descent, batches, Meter(self.device), steps=steps)

    def seconds_a_step(self, work: Callable[..., None]) -> float:
        synchronize(self.device)
        start = time.perf_counter()
        work(steps=self._settings.steps)
        synchronize(self.device)
        return (time.perf_counter() - start) / self._settings.steps


def run(settings: BenchSettings) -> None:
    with TemporaryDirectory() as folder:
        make_shards(Path(folder), clips=settings.clips, shards=min(16, settings.clips))
        catalog = load_catalog(folder, "train")
        bench = Bench(settings, catalog)
        name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
        print(f"{settings.student.name}, {settings.batch} clips of 20 s a step, on {name}", flush=True)
        for warm_up in (bench.eager, bench.bare):
            warm_up()
        seconds: dict[str, list[float]] = {"bare": [], "loop": [], "eager": []}
        for _ in range(settings.rounds):
            for way, found in seconds.items():
                found.append(getattr(bench, way)())
        speeds = compare(Load(catalog, settings.batch, 24, settings.workers), settings.rounds)
        reader = median(speed.clips_per_second for speed in speeds["ours"])
        print(describe(settings, seconds, reader, bench.flops(), traffic(settings, catalog)))
        if bench.device.type == "cuda":
            print(describe_card(bench, settings, catalog, median(seconds["bare"])))
        print(f"reader alone, {settings.workers} workers\n{report(speeds)}")


def describe(settings: BenchSettings, seconds: dict[str, list[float]], reader: float, flops: int, traffic: int) -> str:
    """The steps' times, their ratios beside the target, and what 100,000 of them ask of the reader."""
    lines = [
        f"{way:6}{1e3 * median(found):10.2f} ms a step  ({1e3 * min(found):.2f}-{1e3 * max(found):.2f})"
        f"{settings.batch / median(found):10.1f} clips/s"
        for way, found in seconds.items()
    ]
    pairs = zip(seconds["loop"], seconds["bare"], seconds["eager"], strict=True)
    over_bare, over_fast = zip(*((loop / bare, eager / bare) for loop, bare, eager in pairs), strict=True)
    lines.append(f"loop over bare    {median(over_bare):8.3f} times  (target: at most {LOOP_TARGET:g})")
    lines.append(f"eager over compiled{median(over_fast):7.2f} times")
    bare = median(seconds["bare"])
    lines.append(
        f"a step: {flops / 1e9:.3g} GFLOP; {traffic / 1e6:.0f} MB of activations and gradients pass through memory"
    )
    wanted = settings.batch / bare
    lines.append(
        f"{PAPER_STEPS} such steps take {PAPER_STEPS * bare / 3600:.2f} h and need {wanted:.0f} clips/s; "
        f"the reader delivers {reader:.0f}"
    )
    return "\n".join(lines)


def traffic(settings: BenchSettings, catalog: Catalog) -> int:
    """Bytes a step that no fusion avoids: each layer's output `PASSES` times, at 2 bytes in bfloat16 and else at 4."""
    channels, elements = 1, 0
    for layer in settings.student.layers:
        channels = layer.filters or channels
        elements += channels * settings.student.steps(catalog.clip.samples, layer.name)
    size = 2 if settings.device == "cuda" and settings.precision != "float32" else 4
    return PASSES * size * elements * settings.batch


def describe_card(bench: Bench, settings: BenchSettings, catalog: Catalog, step_seconds: float) -> str:
    """How much of what the card can multiply and copy a step uses, both measured here."""
    side = 8192
    matrix = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16)
    product = 2 * side**3 / best_seconds(lambda: matrix @ matrix, bench.device)
    source = torch.empty(2**30, dtype=torch.uint8, device=bench.device)
    copied = 2 * source.numel() / best_seconds(lambda: source.clone(), bench.device)
    flops, moved = bench.flops() / step_seconds, traffic(settings, catalog) / step_seconds
    return (
        f"{flops / 1e12:.1f} of {product / 1e12:.0f} TFLOP/s of a bfloat16 product ({flops / product:.0%}); "
        f"{moved / 1e12:.2f} of {copied / 1e12:.2f} TB/s of a copy ({moved / copied:.0%})"
    )


def best_seconds(work: Callable[[], object], device: torch.device) -> float:
    """The fastest of ten."""
    found = []
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    command(BenchSettings, "bench_train", run)
