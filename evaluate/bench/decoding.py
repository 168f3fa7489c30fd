"""Times our reader against others, in CPU time with children's included, and prints the ratios beside their targets."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

from evaluate.bench import cost, readers
from evaluate.bench.films import render_film
from shards.cli.pipes import ending_quietly
from shards.media.file import UnreadableMedia

Reader = Callable[[Path], None]
Measured = dict[Path, list[dict[Reader, float]]]  # CPU seconds of each reader, by file and round
EXTENSIONS = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"}


@dataclass(frozen=True)
class Claim:
    """`ours` is to be so many times cheaper than `other`: the median over the files, and each file."""

    ours: Reader
    other: Reader
    median: float | None = None
    each: float | None = None


CLAIMS = [
    Claim(readers.exact, readers.peers, median=2.5, each=2.0),
    Claim(readers.exact, readers.full_decode, median=1.8, each=1.2),
    Claim(readers.keyframe, readers.peers, median=10.0),
    Claim(readers.exact, readers.torchcodec),
    Claim(readers.tolerance, readers.exact),
    Claim(readers.keyframe, readers.exact),
    Claim(readers.sound_alone, readers.ffmpeg_sound_file, median=3.5),
    Claim(readers.sound_alone, readers.ffmpeg_sound),
]


def cpu_seconds(reader: Reader, path: Path) -> float:
    """CPU time of this process and of the children that it waited for."""
    before = cost.cpu_seconds()
    reader(path)
    return cost.cpu_seconds() - before


def films(folder: Path, heights: list[int], seconds: int, console: Console) -> list[Path]:
    """The rendered films, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{height}p-{seconds}s.mp4" for height in heights]
    for height, path in zip(heights, paths, strict=True):
        if not path.is_file():
            console.print(f"rendering {path}")
            render_film(path, height, seconds)
    return paths


def measure(paths: list[Path], rounds: int, claims: list[Claim], console: Console) -> Measured:
    """For each file its rounds: CPU seconds of each reader, all of them once a round, in turning order."""
    used = _used_by(claims)
    measured: Measured = {}
    for path in paths:
        try:
            readers.exact(path)
        except UnreadableMedia as reason:
            console.print(f"{path.name} is left out: {reason}")
            continue
        if not measured:
            for reader in used:
                reader(path)  # libraries are loaded from here on
        measured[path] = []
        for index in range(rounds):
            turn = used[index % len(used) :] + used[: index % len(used)]
            measured[path].append({reader: cpu_seconds(reader, path) for reader in turn})
        medians = {reader: statistics.median(times[reader] for times in measured[path]) for reader in used}
        console.print(f"{path.name}: " + ", ".join(f"{name(reader)} {time:.3f} s" for reader, time in medians.items()))
    return measured


def ratios(claim: Claim, measured: Measured) -> list[float]:
    """One for each file: the median over the rounds of the other's time over ours."""
    return [
        statistics.median(times[claim.other] / times[claim.ours] for times in rounds) for rounds in measured.values()
    ]


def report(claims: list[Claim], measured: Measured, console: Console) -> None:
    table = Table("ours", "against", "times cheaper: median", "lowest", "highest", "target", "")
    for claim in claims:
        by_file = ratios(claim, measured)
        median, lowest = statistics.median(by_file), min(by_file)
        wanted = [("median", claim.median, median), ("each", claim.each, lowest)]
        targets = [f"{kind} {target:g}" for kind, target, _ in wanted if target]
        met = all(found >= target for _, target, found in wanted if target)
        verdict = ("met" if met else "missed") if targets else ""
        row = [f"{value:.2f}" for value in (median, lowest, max(by_file))]
        table.add_row(name(claim.ours), name(claim.other), *row, ", ".join(targets), verdict)
    console.print(table)
    for reader in _used_by(claims):
        console.print(f"{name(reader)}: {' '.join((reader.__doc__ or '').split())}")


def _used_by(claims: list[Claim]) -> list[Reader]:
    return list(dict.fromkeys(reader for claim in claims for reader in (claim.ours, claim.other)))


def name(reader: Reader) -> str:
    return reader.__name__.replace("_", " ")


def machine() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    ffmpeg = readers.ffmpeg_binary()
    version = (
        subprocess.run([ffmpeg, "-version"], capture_output=True, text=True).stdout.split()[2] if ffmpeg else "none"
    )
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, load {load}; PyAV {av.__version__} (libavcodec {codec}), ffmpeg {version}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluate.bench.decoding", description=__doc__)
    parser.add_argument("settings", nargs="*", help="videos=FOLDER rounds=3 seconds=60 heights=360,480,720")
    settings = dict(word.split("=", 1) for word in parser.parse_args().settings)
    if unknown := settings.keys() - {"videos", "rounds", "seconds", "heights"}:
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    console = Console(soft_wrap=True)
    console.print(machine())
    heights = [int(height) for height in settings.get("heights", "360,480,720").split(",")]
    paths = films(Path("outputs/bench"), heights, int(settings.get("seconds", "60")), console)
    if "videos" in settings:
        paths += sorted(path for path in Path(settings["videos"]).rglob("*") if path.suffix.lower() in EXTENSIONS)
    claims = []
    for claim in CLAIMS:
        if missing := readers.lacks(claim.other):
            console.print(f"not compared with {name(claim.other)}: it needs {missing}")
        else:
            claims.append(claim)
    report(claims, measure(paths, int(settings.get("rounds", "3")), claims, console), console)


if __name__ == "__main__":
    with ending_quietly():
        main()
