"""`make gpu-check`: what a first GPU is needed for, as one page and a JSON, within minutes. A CPU runs it too, small.

A part that fails is a line of the page, and the others go on; one that the time is up for is said to be not run. The
page is written after each part, so that what ends the check costs no more than the part it ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from evaluate.bench.gpu.variants import Variant, channels_last, folded, polyphase
from evaluate.bench.loading import Load, floor, make_shards, ours
from evaluate.bench.training import Bench, BenchSettings, best_seconds, describe_card, synchronize
from pipeline.teachers.cards import cards
from pipeline.teachers.precision import fastest_precision
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from pipeline.teachers.teacher import Teacher
from shards.cli.command import command
from shards.errors import UserError
from shards.files import write_whole
from shards.loader.catalog import Catalog, load_catalog
from train.device.device import compiler, require_device
from train.model.student import Student
from train.trainer.losses import divergence
from train.trainer.trainer import predictor

TOP = 10  # kernels of a step that are named
PROFILED = 3  # steps
PRECISION_BOUND = 0.05  # nats, of bfloat16's logits from float32's
TRANSFORM = Transform(256, 224, "rgb", [124.0, 116.0, 104.0], [58.0, 57.0, 57.0], "bilinear")
Part = Callable[["Check"], Mapping[str, Any]]


@dataclass
class GpuCheckSettings(BenchSettings):
    """conf/gpu_check.yaml. Where there is no GPU: device=cpu batch=2 steps=2 rounds=1."""

    steps: int = 20  # steps of one measurement
    rounds: int = 3  # rounds, in each of which everything is timed once
    minutes: float = 8.0  # parts that would begin later than this are not run
    out: Path = Path("outputs/gpu-check")  # folder of the page and its JSON


@dataclass
class Check:
    """What the parts share."""

    settings: GpuCheckSettings
    folder: Path  # of the shards that were made
    catalog: Catalog
    bench: Bench
    deadline: float  # by time.monotonic()
    found: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    forwards: dict[str, Callable[..., Any]] = field(default_factory=dict)  # compiled, by the names of `step`


def machine(check: Check) -> Mapping[str, Any]:
    """The card, its driver's words, and torch."""
    facts: dict[str, Any] = {"torch": torch.__version__, "device": check.settings.device}
    if check.bench.device.type == "cuda":
        card = torch.cuda.get_device_properties(check.bench.device)
        facts |= {"card": card.name, "gigabytes": round(card.total_memory / 1e9, 1), "cards": torch.cuda.device_count()}
        facts["capability"] = f"{card.major}.{card.minor}"
        facts["tf32"] = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return facts


def tests(check: Check) -> Mapping[str, Any]:
    """The tests that need a GPU."""
    done = finished(check, "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider")
    lines = done.stdout.splitlines()
    return {"exit code": done.returncode, "pytest": lines[-1] if lines else done.stderr[-200:]} | {
        line.split(" - ")[0]: "failed" for line in lines if line.startswith("FAILED")
    }


def arithmetic(check: Check) -> Mapping[str, Any]:
    """How far the ways of computing one batch are from float32 without the compiler: KL of the logits, in nats."""
    bench, batch = check.bench, check.bench.held[0]

    def logits(forward: Callable[..., Any]) -> Mapping[str, Tensor]:
        with torch.no_grad():
            found: Mapping[str, Tensor] = forward(batch)
        return {head: each.float().log_softmax(dim=1) for head, each in found.items()}

    eager = predictor(bench.frontend, lambda function: function)
    plain = logits(eager)

    def nats(other: Mapping[str, Tensor]) -> float:
        return max(float(divergence(plain[head].exp(), other[head]).abs().max()) for head in plain)

    def in_bfloat16(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(batch: Any) -> Any:
            with torch.autocast(bench.device.type, torch.bfloat16):
                return forward(batch)

        return run

    ways = {"the same again": eager, "compiled": bench.fast[0], **variants(check, lambda function: function)}
    found = {name: nats(logits(forward)) for name, forward in ways.items()}
    del ways["compiled"]  # once more would be a minute of compiling
    halved = {f"{name}, bfloat16": nats(logits(in_bfloat16(forward))) for name, forward in ways.items()}
    return found | halved | {"bfloat16 within bound": max(halved.values()) < PRECISION_BOUND}


def variants(check: Check, compiled: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """Other ways of computing the network, where it is of plain convolutions and pools."""
    student = check.bench.frontend.network
    if not isinstance(student, Student) or not all(
        hasattr(each, "conv") or isinstance(each, nn.MaxPool1d) for each in student.blocks.values()
    ):
        return {}
    ways = {"channels last": channels_last, "polyphase": polyphase, "folded": folded}
    return {name: predictor(Variant(student, way), compiled) for name, way in ways.items()}


def step(check: Check) -> Mapping[str, Any]:
    """Milliseconds a step, in turn: as shipped from the shards, the bare step, uncompiled, other ways."""
    bench = check.bench
    check.forwards = forwards = {
        "bare": bench.fast[0],
        **variants(check, compiler(check.settings.compile, bench.device)),
    }
    if bench.device.type == "cuda":
        graphs = partial(torch.compile, dynamic=False, mode="reduce-overhead")
        forwards["CUDA graphs"] = predictor(bench.frontend, graphs)

    def timed(forward: Callable[..., Any]) -> Callable[[], float]:
        return lambda: bench.seconds_a_step(partial(bench.take_steps, forward, bench.fast[1]))

    ways = {"loop": bench.loop, "eager": bench.eager} | {name: timed(forward) for name, forward in forwards.items()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + check.settings.rounds):  # the first is the compilers' and searches' for algorithms
        for name, way in ways.items():
            bench.begin_anew()  # so that none goes on from what another has made of the weights
            found[name].append(1e3 * way())
            if not all(bool(each.isfinite().all()) for each in bench.frontend.parameters()):
                raise RuntimeError(f"{name}: weights that are not finite")
    loop = median(loop / bare for loop, bare in zip(found["loop"][1:], found["bare"][1:], strict=True))
    return {name: median(each[1:]) for name, each in found.items()} | {"loop over bare": loop}


def share(check: Check) -> Mapping[str, Any]:
    """Of the card's matrix rate and of its memory's."""
    if check.bench.device.type != "cuda":
        return {"not run": "it is a card's"}
    return {"step": describe_card(check.bench, check.settings, check.catalog, check.found["step"]["bare"] / 1e3)}


def kernels(check: Check) -> Mapping[str, Any]:
    """The kernels that a step takes longest in, milliseconds a step."""
    return longest(check, check.bench.fast[0])


def folded_kernels(check: Check) -> Mapping[str, Any]:
    """The same of the folded step."""
    return longest(check, check.forwards["folded"]) if "folded" in check.forwards else {"not run": "no such step"}


def longest(check: Check, forward: Callable[..., Any]) -> Mapping[str, float]:
    from torch.profiler import ProfilerActivity, profile

    take = partial(check.bench.take_steps, forward, check.bench.fast[1])
    take(steps=1)
    on_gpu = check.bench.device.type == "cuda"
    # Asked for a card's on a machine without one, the profiler prints an error of its own.
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        check.bench.seconds_a_step(lambda steps: take(steps=PROFILED))
    rows = [
        (row.self_device_time_total if on_gpu else row.self_cpu_time_total, row.key) for row in profiler.key_averages()
    ]
    return {key[:90]: time / 1e3 / PROFILED for time, key in sorted(rows, reverse=True)[:TOP]}


def wall(check: Check) -> Mapping[str, Any]:
    """Clips a second of reading (by threads), of copying to the device and of the bare step; the least is the wall."""
    settings, device = check.settings, check.bench.device
    rates = {}
    for threads in (1, 2, 4, 8):
        read = ours(Load(check.catalog, settings.batch, settings.steps, threads))
        rates[f"reading, {threads} threads"] = read.clips_per_second
    bare = floor(Load(check.catalog, settings.batch, settings.steps, 4))
    rates["bare reading, 4 threads"] = bare.clips_per_second
    waveform = check.bench.held[0].waveform.cpu()
    waveform = waveform.pin_memory() if device.type == "cuda" else waveform
    rates["copying"] = settings.batch / best_seconds(lambda: waveform.to(device, copy=True, non_blocking=True), device)
    rates["arithmetic"] = settings.batch / (check.found["step"]["bare"] / 1e3)
    least = min(
        (name for name in rates if name in ("reading, 4 threads", "copying", "arithmetic")), key=rates.__getitem__
    )
    return rates | {"the wall": least}


def teachers(check: Check) -> Mapping[str, Any]:
    """Pictures a second that networks of random weights label, copies from the host included."""
    found = {}
    precision = fastest_precision(check.settings.device)
    for architecture in ("alexnet", "resnet50"):
        path, names = check.folder / f"{architecture}.pth", check.folder / "classes.txt"
        torch.save(getattr(torchvision.models, architecture)(num_classes=1000).state_dict(), path)
        names.write_text("".join(f"class {number}\n" for number in range(1000)))
        spec = TeacherSpec(architecture, str(path), TRANSFORM, str(names))
        card = cards(TeacherSet("random", {"objects": spec}))["objects"]
        teacher = Teacher(spec, card, check.settings.device, precision)
        crop = teacher.transform.crop
        pictures = np.random.default_rng(0).integers(0, 256, (check.settings.batch, crop, crop, 3), np.uint8)
        seconds = best_seconds(partial(teacher.posteriors, pictures), check.bench.device)
        found[f"{architecture}, {precision}"] = len(pictures) / seconds
    return found


def ranks(check: Check) -> Mapping[str, Any]:
    """Two ranks under torchrun, where there are two cards (or on the CPU)."""
    if check.bench.device.type == "cuda" and torch.cuda.device_count() < 2:
        return {"not run": "there is one card"}
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train"]
    words = {
        "shards": check.folder,
        "run": check.folder / "run",
        "device": check.settings.device,
        "batch": 4,
        "steps": 3,
    }
    words |= {"compile": "false", "validate_every": 0}
    done = finished(check, *torchrun, *(f"{name}={value}" for name, value in words.items()))
    return {"exit code": done.returncode, "last line": (done.stderr.strip().splitlines() or [""])[-1]}


def finished(check: Check, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python module's run to its end; at the deadline it is killed with all that it has started (ranks that wait for
    each other end by nothing else). Raises subprocess.TimeoutExpired."""
    command = [sys.executable, "-m", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            output, errors = process.communicate(timeout=max(check.deadline - time.monotonic(), 0))
        except BaseException:  # Ctrl-C does not reach another session
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


PARTS: tuple[Part, ...] = (machine, tests, arithmetic, step, share, kernels, folded_kernels, wall, teachers, ranks)


def run(settings: GpuCheckSettings) -> None:
    """Run every part, and write check.json and check.md. Raises UserError where there is no such device."""
    begun = time.monotonic()
    require_device(settings.device)
    settings.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        make_shards(Path(folder), clips=settings.clips, shards=min(16, settings.clips))
        catalog = load_catalog(folder, "train")
        bench = Bench(settings, catalog)
        check = Check(settings, Path(folder), catalog, bench, begun + 60 * settings.minutes)
        for part in PARTS:
            check.found[part.__name__] = outcome(part, check)
            synchronize(bench.device)
            print(page({part.__name__: check.found[part.__name__]}), flush=True)
            write_whole(settings.out / "check.json", json.dumps(check.found, indent=1).encode())
            write_whole(settings.out / "check.md", page(check.found).encode())
    print(f"{settings.out / 'check.md'} and check.json, {time.monotonic() - begun:.0f} s")


def outcome(part: Part, check: Check) -> Mapping[str, Any]:
    """What a part found, or why it did not."""
    late = f"{check.settings.minutes:g} minutes were up"
    if time.monotonic() > check.deadline:
        return {"not run": late}
    try:
        return dict(part(check))
    except subprocess.TimeoutExpired:
        return {"failed": f"not at its end when {late}"}
    except (RuntimeError, UserError, OSError, KeyError, ValueError, TypeError) as error:
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown, a table for each part."""
    lines = []
    for name, facts in found.items():
        about = next(part for part in PARTS if part.__name__ == name).__doc__ or ""
        lines += [f"## {name}", "", about, "", "| what | found |", "|---|---|"]
        lines += [
            f"| {key} | {f'{value:.4g}' if isinstance(value, float) else value} |" for key, value in facts.items()
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    command(GpuCheckSettings, "gpu_check", run)
