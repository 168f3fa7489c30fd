"""What stage one costs beside decoding and labelling: its parent process, and decoders that wait behind a long film."""

from __future__ import annotations

import os
import shutil
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluate.bench.cost import forget_program
from evaluate.bench.labelling import Labelled, label, write_network
from evaluate.bench.video.decoding import films, machine
from evaluate.bench.workloads import write_copies
from shards.cli.command import command
from shards.files import own_folder

TARGET_MS, TARGET_SHARE = 0.3, 0.05


@dataclass(frozen=True)
class ExecutorBench:
    """conf/bench_executor.yaml."""

    clips: int = 400  # clips to weigh the parent process on, each a video of 20 s
    audio: list[str] = field(default_factory=lambda: ["wav", "flac"])  # how the clips' sound is stored: wav, flac
    rounds: int = 3  # rounds, in each of which everything is timed once
    long_seconds: int = 1200  # length of the film that stands before the short ones
    short_videos: int = 150  # short films behind it
    short_seconds: int = 10  # length of a short film
    height: int = 96  # height of all films, in pixels
    decoders: int = 0  # decode processes; 0: one for each core
    out: Path = Path("outputs/bench/executor")  # what is made lies in a folder of its own in it, removed at the end


def labelled(*arguments: Any) -> Labelled:
    """The same in a fresh process, which does nothing else and whose children are none but stage one's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=forget_program) as pool:
        return pool.submit(label, *arguments).result()


def run(settings: ExecutorBench) -> None:
    console = Console(soft_wrap=True)
    console.print(machine())
    with own_folder(settings.out, "bench") as folder:
        measure(replace(settings, out=folder), console)


def measure(settings: ExecutorBench, console: Console) -> None:
    """The films, then both measurements, in settings.out."""
    network = settings.out / "network"
    write_network(network)
    decoders = settings.decoders or len(os.sched_getaffinity(0))
    seconds = (20, settings.short_seconds, settings.long_seconds)
    clip, short, long = (films(Path("outputs/bench"), [settings.height], each, console)[0] for each in seconds)
    write_copies(clip, settings.out / "clips", settings.clips)
    write_copies(long, settings.out / "films", decoders)
    write_copies(short, settings.out / "short", settings.short_videos)
    write_copies(short, settings.out / "behind", settings.short_videos)
    os.link(long, settings.out / "behind" / "0-long.mp4")
    measure_parent(settings, network, decoders, console)
    measure_waiting(settings, network, decoders, console)


def measure_parent(settings: ExecutorBench, network: Path, decoders: int, console: Console) -> None:
    """CPU of the parent and of its children, interleaved over videos of one clip and films, and ways to store sound."""
    what = {"clips": "videos of one clip", "films": f"films of {settings.long_seconds} s"}
    kinds = [(folder, audio) for folder in what for audio in settings.audio]
    found: dict[tuple[str, str], list[Labelled]] = {kind: [] for kind in kinds}
    for number in range(settings.rounds):
        for folder, audio in kinds:
            shards = settings.out / f"shards-{number}-{folder}-{audio}"
            found[folder, audio].append(labelled(settings.out / folder, shards, network, audio, decoders, False))
            shutil.rmtree(shards)
    title = f"CPU, ms a clip: medians of {settings.rounds} runs, {decoders} decoders"
    table = Table("clips", "of", "sound", "parent", "lowest", "highest", "target", "", "all others", title=title)
    for (folder, audio), runs in found.items():
        own = [1000 * each.own_seconds / each.clips for each in runs]
        rest = statistics.median(1000 * each.child_seconds / each.clips for each in runs)
        median = statistics.median(own)
        figures = [f"{each:.3f}" for each in (median, min(own), max(own))]
        verdict = "met" if median <= TARGET_MS else "missed"
        table.add_row(str(runs[0].clips), what[folder], audio, *figures, f"{TARGET_MS:g}", verdict, f"{rest:.1f}")
    console.print(table)


def measure_waiting(settings: ExecutorBench, network: Path, decoders: int, console: Console) -> None:
    """How much of their time decoders sleep while there are videos to begin, with a long film first and without."""
    shorts = f"{settings.short_videos} of {settings.short_seconds} s"
    what = {"short": shorts, "behind": f"one of {settings.long_seconds} s, and then {shorts}"}
    found: dict[str, list[float]] = {folder: [] for folder in what}
    for number in range(settings.rounds):
        for folder in what:
            shards = settings.out / f"shards-{number}-{folder}"
            run = labelled(settings.out / folder, shards, network, "wav", decoders, True)
            found[folder].append(run.waiting_share)
            shutil.rmtree(shards)
    table = Table("videos", "decoders wait", "lowest", "highest", "target", "", title=f"{decoders} decoders")
    for folder, shares in found.items():
        median = statistics.median(shares)
        verdict = "met" if median <= TARGET_SHARE else "missed"
        row = [f"{share:.1%}" for share in (median, min(shares), max(shares), TARGET_SHARE)]
        table.add_row(what[folder], *row, verdict)
    console.print(table)


if __name__ == "__main__":
    command(ExecutorBench, "bench_executor", run)
