"""Planning, memory and rates of stage one, measured on this machine, and what two million videos would take by them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from evaluate.bench import workloads
from evaluate.bench.cost import cost_of
from evaluate.bench.films import render_film
from shards.cli.command import command
from shards.format.clip import ClipSpec

HOUR = 3600.0

GIGABYTE = 1e9
FINISHED = 0.9  # of the planned shards, when the list is resumed
DECODED = 8  # films, to see how decoding scales


def measure_planning(settings: Scale, console: Console) -> None:
    """A list planned, and resumed with most of it done: time and memory."""
    videos, shards = settings.out / "list.csv", settings.out / "planned"
    workloads.write_list(videos, settings.rows)
    planned = cost_of(workloads.plan_list, videos, shards)
    done = cost_of(workloads.finish_shards, shards, FINISHED).result
    resumed = cost_of(workloads.resume_list, videos, shards)
    table = Table("a list of videos", "rows", "shards", "seconds", "memory, GB", title="Planning")
    for what, cost, count in (("planned", planned, planned.result), ("resumed and accounted for", resumed, done)):
        row = (what, f"{settings.rows:,}", f"{count:,}", f"{cost.seconds:.0f}", f"{cost.own_bytes / GIGABYTE:.2f}")
        table.add_row(*row)
    console.print(table)


def measure_labelling(settings: Scale, console: Console) -> float:
    """More and more small videos through the whole of stage one. Returns bytes of shard for a second of film."""
    film = settings.out / "small.mp4"
    render_film(film, 96, seconds := 5)
    table = Table("small videos", "seconds", "driver, GB", "largest worker, GB", title="Memory of stage one")
    bytes_per_second = 0.0
    for count in settings.small_videos:
        videos, shards = settings.out / f"videos-{count}", settings.out / f"labelled-{count}"
        workloads.write_copies(film, videos, count)
        cost = cost_of(workloads.label_all, videos, shards)
        sizes = (f"{size / GIGABYTE:.3f}" for size in (cost.own_bytes, cost.child_bytes))
        table.add_row(f"{count:,}", f"{cost.seconds:.1f}", *sizes)
        bytes_per_second = float(cost.result / (count * seconds))
    console.print(table)
    return bytes_per_second


def measure_decoding(settings: Scale, console: Console) -> float:
    """Films read by more and more workers. Returns CPU seconds for a second of film, with one worker."""
    film, videos = settings.out / "film.mp4", settings.out / "films"
    render_film(film, settings.height, settings.seconds)
    workloads.write_copies(film, videos, DECODED)
    (none := settings.out / "none").mkdir(exist_ok=True)
    footage = DECODED * settings.seconds
    idle = {workers: cost_of(workloads.decode_all, none, workers) for workers in _workers()}
    busy = {workers: cost_of(workloads.decode_all, videos, workers) for workers in _workers()}
    one = busy[1].seconds - idle[1].seconds
    table = Table("decode workers", "seconds of film a second", "times one worker", title="Decoding")
    for workers, cost in busy.items():
        seconds = cost.seconds - idle[workers].seconds  # without the start of the processes
        table.add_row(str(workers), f"{footage / seconds:.0f}", f"{one / seconds:.2f}")
    console.print(table)
    return (busy[1].cpu_seconds - idle[1].cpu_seconds) / footage


def measure_teachers(device: str) -> float:
    """Seconds a frame, of one core or of the GPU."""
    few, many = (cost_of(workloads.label_frames, device, batches) for batches in (2, 12))
    return float((many.seconds - few.seconds) / (many.result - few.result))


def show_estimate(settings: Scale, rates: Rates, console: Console) -> None:
    """The measured rates, and what the whole corpus takes by them."""
    corpus, prices = settings.lake, settings.prices
    found = estimate(corpus, rates, prices)
    table = Table("", "", title=f"Stage one for {corpus.videos:,} videos, {corpus.seconds / 3600:,.0f} hours")
    where = "of the GPU" if rates.on_gpu else "of one core; there is no GPU here"
    table.add_row("decoding, CPU seconds for a second of film", f"{rates.decode_cpu_seconds:.4f}")
    table.add_row(f"teachers ({workloads.TEACHERS}), ms a frame {where}", f"{1000 * rates.teacher_seconds:.2f}")
    table.add_row("shards, kB for a second of film", f"{rates.bytes_per_second / 1000:.1f}")
    table.add_section()
    table.add_row("core-hours", f"{found.core_hours:,.0f} ({found.decode_core_hours:,.0f} of them decoding)")
    table.add_row("GPU-hours", f"{found.teacher_gpu_hours:,.0f}" if rates.on_gpu else "none; not measured")
    table.add_row("terabytes", f"{found.terabytes:.2f}")
    stated = (
        f"${prices.core_hour:g} a core-hour, ${prices.gpu_hour:g} a GPU-hour, ${prices.terabyte_month:g} a TB-month"
    )
    table.add_row(f"dollars, with a month of storage, at {stated}", f"{found.dollars:,.0f}")
    console.print(table)


def _workers() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({1, cores, *(2**power for power in range(1, 8) if 2**power < cores)})


def run(settings: Scale) -> None:
    console = Console(soft_wrap=True)
    shutil.rmtree(settings.out, ignore_errors=True)
    settings.out.mkdir(parents=True)
    try:
        measure_planning(settings, console)
        stored = measure_labelling(settings, console)
        decoding = measure_decoding(settings, console)
        on_gpu = torch.cuda.is_available()
        teacher = measure_teachers("cuda:0" if on_gpu else "cpu")
        clip = ClipSpec()
        show_estimate(settings, Rates(decoding, teacher, clip.frames / clip.seconds, stored, on_gpu), console)
    finally:
        shutil.rmtree(settings.out, ignore_errors=True)


@dataclass(frozen=True)
class Corpus:
    """The videos to be worked through. The paper: over two million, more than a year of sound (section 1)."""

    videos: int = 2_000_000
    seconds: float = 31.5e6  # of all of them together


@dataclass(frozen=True)
class Rates:
    """As measured here."""

    decode_cpu_seconds: float  # CPU seconds for a second of film, frames and sound
    teacher_seconds: float  # of one core or of the GPU, for a frame
    frames_per_second: float  # labelled frames for a second of film
    bytes_per_second: float  # of a shard, for a second of film
    on_gpu: bool  # the teachers


@dataclass(frozen=True)
class Prices:
    """In dollars; a cloud's list prices of its cheaper kinds, to be replaced by your own."""

    core_hour: float = 0.04
    gpu_hour: float = 2.5
    terabyte_month: float = 20.0


@dataclass(frozen=True)
class Scale:
    """conf/bench_scale.yaml."""

    rows: int = 2_000_000  # of the list that is planned and resumed
    small_videos: list[int] = field(default_factory=lambda: [10, 100, 1000])
    seconds: int = 60  # of the film that decoding is timed on
    height: int = 480
    lake: Corpus = field(default_factory=Corpus)
    prices: Prices = field(default_factory=Prices)
    out: Path = Path("outputs/bench/scale")


@dataclass(frozen=True)
class Estimate:
    decode_core_hours: float
    teacher_core_hours: float
    teacher_gpu_hours: float
    terabytes: float
    dollars: float  # once, and the storage of one month

    @property
    def core_hours(self) -> float:
        return self.decode_core_hours + self.teacher_core_hours


def estimate(corpus: Corpus, rates: Rates, prices: Prices) -> Estimate:
    """Stage one over the whole corpus."""
    decode = corpus.seconds * rates.decode_cpu_seconds / HOUR
    teacher = corpus.seconds * rates.frames_per_second * rates.teacher_seconds / HOUR
    on_cores, on_gpus = (0.0, teacher) if rates.on_gpu else (teacher, 0.0)
    terabytes = corpus.seconds * rates.bytes_per_second / 1e12
    dollars = (decode + on_cores) * prices.core_hour + on_gpus * prices.gpu_hour + terabytes * prices.terabyte_month
    return Estimate(decode, on_cores, on_gpus, terabytes, dollars)


if __name__ == "__main__":
    command(Scale, "bench_scale", run)
