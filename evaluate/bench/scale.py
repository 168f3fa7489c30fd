"""Planning, memory and rates of stage one, measured on this machine, and what two million videos would take by them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from evaluate.bench import workloads
from evaluate.bench.cost import Cost, cost_of
from evaluate.bench.video.films import render_film
from evaluate.bench.video.readers import decode_all
from evaluate.bench.workloads import FrameCost
from pipeline.teachers.precision import fastest_precision
from shards.cli.command import command
from shards.files import own_folder
from shards.format.clip import ClipSpec

HOUR = 3600.0

GIGABYTE = 1e9
FINISHED = 0.9  # of the planned shards, when the list is resumed
DECODED = 8  # films, to see how decoding scales
LABELLED = 8  # batches of frames, to time the teachers on
SAMPLINGS = ("exact", "tolerance", "keyframe")
# Targets for two million 480p videos on a CPU of today, with the labels of EfficientNet-Lite0 and without.
CORE_HOURS, DECODE_CORE_HOURS = 50.0, 40.0


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


def measure_memory(settings: Scale, console: Console) -> None:
    """More and more small videos through the whole of stage one."""
    film = settings.out / "small.mp4"
    render_film(film, 96, 5)
    table = Table("small videos", "seconds", "driver, GB", "largest worker, GB", title="Memory of stage one")
    for count in settings.small_videos:
        videos, shards = settings.out / f"videos-{count}", settings.out / f"labelled-{count}"
        workloads.write_copies(film, videos, count)
        cost = cost_of(workloads.label_all, videos, shards)
        sizes = (f"{size / GIGABYTE:.3f}" for size in (cost.own_bytes, cost.child_bytes))
        table.add_row(f"{count:,}", f"{cost.seconds:.1f}", *sizes)
    console.print(table)


def measure_decoding(settings: Scale, film: Path, console: Console) -> None:
    """Films read by more and more workers."""
    videos = settings.out / "films"
    workloads.write_copies(film, videos, DECODED)
    (none := settings.out / "none").mkdir(exist_ok=True)
    idle = {workers: cost_of(decode_all, none, workers) for workers in _workers()}
    busy = {workers: cost_of(decode_all, videos, workers) for workers in _workers()}
    one = busy[1].seconds - idle[1].seconds
    table = Table("decode workers", "seconds of film a second", "times one worker", title="Decoding")
    for workers, cost in busy.items():
        seconds = cost.seconds - idle[workers].seconds  # without the start of the processes
        table.add_row(str(workers), f"{DECODED * settings.corpus.seconds / seconds:.0f}", f"{one / seconds:.2f}")
    console.print(table)


def measure_stage(settings: Scale, film: Path, sampling: str) -> tuple[float, float]:
    """CPU seconds and bytes of shard for a video, from its opening to its clips in a tar, labelled on the CPU.

    What a few videos cost is taken off: the start of the processes, and a report, which shows a dozen clips.
    """
    costs = []
    for count in settings.films:
        videos, shards = settings.out / f"whole-{count}", settings.out / f"{sampling}-{count}"
        if not videos.exists():
            workloads.write_copies(film, videos, count)
        words = (f"sampling={sampling}", "decoders=1", "teacher_processes=1")
        costs.append(cost_of(workloads.label_all, videos, shards, *words))
    (few, many), (less, more) = settings.films, costs
    return (more.cpu_seconds - less.cpu_seconds) / (many - few), (more.result - less.result) / (many - few)


def measure_teachers(settings: Scale, console: Console) -> FrameCost:
    """A frame on this CPU, with the allocator as glibc has it and as the teachers have it. Returns the cheapest."""
    table = Table("CPU teachers", "freed memory", "CPU ms a frame", "page faults a frame", "peak, GB", title="Teachers")
    fastest = fastest_precision("cpu")
    ways = [(precision, keeps) for precision in dict.fromkeys(("float32", fastest)) for keeps in (False, True)]
    rounds = [
        {way: cost_of(workloads.label_frames, "cpu", way[0], LABELLED, way[1]) for way in ways}
        for _ in range(settings.rounds)
    ]
    middle = {way: sorted((each[way] for each in rounds), key=_frame_cpu)[len(rounds) // 2] for way in ways}
    for (precision, keeps), cost in middle.items():
        figures = (
            f"{1000 * _frame_cpu(cost):.1f}",
            f"{cost.result.page_faults:,.0f}",
            f"{cost.own_bytes / GIGABYTE:.2f}",
        )
        table.add_row(precision, "kept" if keeps else "given back", *figures)
    console.print(table)
    found: FrameCost = middle[fastest, True].result
    return found


def _frame_cpu(cost: Cost) -> float:
    return float(cost.result.cpu_seconds)


def show_estimate(settings: Scale, rates: dict[str, Rates], console: Console) -> None:
    """The measured rates of each sampling, and what the whole corpus takes by them."""
    corpus, prices = settings.corpus, settings.prices
    hours = corpus.videos * corpus.seconds / HOUR
    title = f"Stage one for {corpus.videos:,} videos of {corpus.seconds:g} s, {hours:,.0f} hours, {settings.height}p"
    table = Table("sampling", *rates, title=title)
    measured = [(each, estimate(corpus, each, prices)) for each in rates.values()]
    frames, gpu = measured[0][0].frames, measured[0][0].gpu

    def row(what: str, value: Callable[[Rates, Estimate], float], decimals: int) -> None:
        table.add_row(what, *(f"{value(*each):,.{decimals}f}" for each in measured))

    row("a video, CPU ms, labels included", lambda rates, _: 1000 * rates.video_cpu_seconds, 1)
    labels = f"of them teachers ({workloads.TEACHERS}, {frames} frames)"
    row(labels, lambda rates, _: 1000 * rates.frames * rates.teacher.cpu_seconds, 1)
    row("a video, kB of shard", lambda rates, _: rates.video_bytes / 1000, 0)
    table.add_section()
    row(f"core-hours (target: {CORE_HOURS:g})", lambda _, found: found.core_hours, 1)
    row(f"without teachers (target: {DECODE_CORE_HOURS:g})", lambda _, found: found.decode_core_hours, 1)
    row("terabytes", lambda _, found: found.terabytes, 2)
    row("dollars, with a month of storage", lambda _, found: found.dollars, 0)
    if gpu is not None:
        table.add_section()
        row(f"teachers on a GPU, {1000 * gpu.seconds:.2f} ms a frame: GPU-hours", lambda _, found: found.gpu_hours, 1)
        row("core-hours beside it", lambda _, found: found.core_hours_beside_gpu, 1)
        row("dollars", lambda _, found: found.gpu_dollars, 0)
    console.print(table)
    per_gpu = f"${prices.gpu_hour:g} a GPU-hour" if gpu else "no GPU is here"
    console.print(f"${prices.core_hour:g} a core-hour, ${prices.terabyte_month:g} a TB-month, {per_gpu}")


def _workers() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({1, cores, *(2**power for power in range(1, 8) if 2**power < cores)})


def run(settings: Scale) -> None:
    console = Console(soft_wrap=True)
    with own_folder(settings.out, "bench") as folder:
        settings = replace(settings, out=folder)
        measure_planning(settings, console)
        measure_memory(settings, console)
        film = settings.out / "film.mp4"
        render_film(film, settings.height, settings.corpus.seconds)
        measure_decoding(settings, film, console)
        teacher = measure_teachers(settings, console)
        gpu = None
        if torch.cuda.is_available():
            gpu = cost_of(workloads.label_frames, "cuda:0", fastest_precision("cuda:0"), LABELLED).result
        frames = int(settings.corpus.seconds / ClipSpec().window_seconds) * ClipSpec().frames_per_window
        rates = {way: Rates(*measure_stage(settings, film, way), frames, teacher, gpu) for way in SAMPLINGS}
        show_estimate(settings, rates, console)


@dataclass(frozen=True)
class Corpus:
    """The videos to be worked through. The paper: over two million, more than a year of sound (section 1)."""

    videos: int = 2_000_000  # videos of the corpus that is estimated
    seconds: float = 15.75  # length of each; the paper's have more than a year of sound together


@dataclass(frozen=True)
class Rates:
    """As measured here."""

    video_cpu_seconds: float  # of the whole of stage one
    video_bytes: float  # of a shard
    frames: int  # labelled, of a video
    teacher: FrameCost  # on the CPU
    gpu: FrameCost | None


@dataclass(frozen=True)
class Prices:
    """In dollars; a cloud's list prices of its cheaper kinds, to be replaced by your own."""

    core_hour: float = 0.04  # dollars for an hour of a CPU core
    gpu_hour: float = 2.5  # dollars for an hour of a GPU
    terabyte_month: float = 20.0  # dollars for a month of a terabyte


@dataclass(frozen=True)
class Scale:
    """conf/bench_scale.yaml."""

    rows: int = 2_000_000  # rows of the list that is planned and resumed
    # numbers of small videos that go through the whole of stage one
    small_videos: list[int] = field(default_factory=lambda: [10, 100, 1000])
    height: int = 480  # height in pixels of the film that is timed
    # copies of it, few and many, that go through the whole of stage one: a video costs their difference
    films: tuple[int, int] = (16, 80)
    rounds: int = 3  # rounds in which the teachers are timed
    corpus: Corpus = field(default_factory=Corpus)
    prices: Prices = field(default_factory=Prices)
    out: Path = Path("outputs/bench/scale")  # what is made lies in a folder of its own in it, removed at the end


@dataclass(frozen=True)
class Estimate:
    """Dollars are what it costs once, and the storage of one month."""

    decode_core_hours: float  # all but the teachers
    teacher_core_hours: float
    terabytes: float
    dollars: float
    gpu_hours: float = 0.0  # and what follows: with the teachers on a GPU
    core_hours_beside_gpu: float = 0.0
    gpu_dollars: float = 0.0

    @property
    def core_hours(self) -> float:
        return self.decode_core_hours + self.teacher_core_hours


def estimate(corpus: Corpus, rates: Rates, prices: Prices) -> Estimate:
    """Stage one over the whole corpus."""
    frames = corpus.videos * rates.frames
    whole = corpus.videos * rates.video_cpu_seconds / HOUR
    teachers = frames * rates.teacher.cpu_seconds / HOUR
    terabytes = corpus.videos * rates.video_bytes / 1e12
    storage = terabytes * prices.terabyte_month
    on_cpu = (whole - teachers, teachers, terabytes, whole * prices.core_hour + storage)
    if rates.gpu is None:
        return Estimate(*on_cpu)
    gpu_hours, beside = frames * rates.gpu.seconds / HOUR, whole - teachers + frames * rates.gpu.cpu_seconds / HOUR
    dollars = beside * prices.core_hour + gpu_hours * prices.gpu_hour + storage
    return Estimate(*on_cpu, gpu_hours, beside, dollars)


if __name__ == "__main__":
    command(Scale, "bench_scale", run)
