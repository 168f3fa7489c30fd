"""Times our reader against others, in CPU time with children's included, and prints the ratios beside their targets."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
from rich.console import Console

from evaluate.bench import cost
from evaluate.bench.video import readers
from evaluate.bench.video.films import render_film
from evaluate.bench.video.readers import Reader
from shards.cli.pipes import ending_quietly
from shards.media.rejects import UnreadableMedia

Measured = dict[Path, list[dict[Reader, float]]]  # CPU seconds of each reader that reads it, by file and round
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
    Claim(readers.exact, readers.video2numpy),
    Claim(readers.exact, readers.torchcodec),
    Claim(readers.exact, readers.torchcodec_blocks),
    Claim(readers.exact, readers.decord),
    Claim(readers.tolerance, readers.exact),
    Claim(readers.keyframe, readers.exact),
    Claim(readers.sound_alone, readers.ffmpeg_sound_file, median=3.5),
    Claim(readers.sound_alone, readers.ffmpeg_sound),
]


def cpu_seconds(reader: Reader, path: Path) -> float:
    """CPU time of this process and of the children that it waited for, for one reading of the film."""
    before = cost.cpu_seconds()
    reader(path)
    return (cost.cpu_seconds() - before) / (readers.REPEATS if reader is readers.video2numpy else 1)


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
    measured: Measured = {}
    for path in paths:
        try:
            readers.exact(path)
        except UnreadableMedia as reason:
            console.print(f"{path.name} is left out: {reason}")
            continue
        used = [reader for reader in _used_by(claims) if _can_read(reader, path, console)]  # and libraries are loaded
        measured[path] = []
        for index in range(rounds):
            turn = used[index % len(used) :] + used[: index % len(used)]
            measured[path].append({reader: cpu_seconds(reader, path) for reader in turn})
        medians = {reader: statistics.median(times[reader] for times in measured[path]) for reader in used}
        console.print(f"{path.name}: " + ", ".join(f"{name(reader)} {time:.3f} s" for reader, time in medians.items()))
    return measured


def _can_read(reader: Reader, path: Path, console: Console) -> bool:
    try:
        reader(path)
    except Exception as error:  # what a foreign library raises is its own affair; without it the others go on
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        console.print(f"{name(reader)} cannot read {path.name}: {reason}")
        return False
    return True


def ratios(claim: Claim, measured: Measured) -> list[float]:
    """One for each file that both read: the median over the rounds of the other's time over ours."""
    return [
        statistics.median(times[claim.other] / times[claim.ours] for times in rounds)
        for rounds in measured.values()
        if {claim.ours, claim.other} <= rounds[0].keys()
    ]


def report(claims: list[Claim], measured: Measured, missing: dict[Reader, str], console: Console) -> None:
    """A table in Markdown, as docs/results.md has it, and what each reader does."""
    console.print("| ours | against | times cheaper: median | lowest, highest | films | target |")
    console.print("|---|---|---|---|---|---|")
    for claim in claims:
        package = readers.version(claim.other)
        ours, other = name(claim.ours), name(claim.other) + (f" ({package})" if package else "")
        by_file = ratios(claim, measured)
        if claim.other in missing or not by_file:
            why = f"needs {missing[claim.other]}" if claim.other in missing else "read no film"
            console.print(f"| {ours} | {other} | {why} | | | |")
            continue
        median, lowest = statistics.median(by_file), min(by_file)
        wanted = [("median", claim.median, median), ("each", claim.each, lowest)]
        targets = [f"{kind} {target:g}" for kind, target, _ in wanted if target]
        met = all(found >= target for _, target, found in wanted if target)
        verdict = f"{', '.join(targets)}: {'met' if met else 'missed'}" if targets else ""
        spread = f"{lowest:.2f}, {max(by_file):.2f}"
        console.print(f"| {ours} | {other} | {median:.2f} | {spread} | {len(by_file)} | {verdict} |")
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
    parser = argparse.ArgumentParser(prog="python -m evaluate.bench.video.decoding", description=__doc__)
    parser.add_argument("settings", nargs="*", help="films=FOLDER rounds=3, or seconds=60 heights=360,480,720 rounds=3")
    settings = dict(word.split("=", 1) for word in parser.parse_args().settings)
    if unknown := settings.keys() - {"films", "rounds", "seconds", "heights"}:
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    console = Console(soft_wrap=True)
    console.print(machine())
    if folder := settings.get("films"):
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in EXTENSIONS)
        if not paths:
            parser.error(f"films={folder} holds no file that ends in {', '.join(sorted(EXTENSIONS))}")
    else:
        heights = [int(height) for height in settings.get("heights", "360,480,720").split(",")]
        paths = films(Path("outputs/bench"), heights, int(settings.get("seconds", "60")), console)
    missing = {claim.other: lack for claim in CLAIMS if (lack := readers.lacks(claim.other))}
    able = [claim for claim in CLAIMS if claim.other not in missing]
    measured = measure(paths, int(settings.get("rounds", "3")), able, console)
    report(CLAIMS, measured, missing, console)


if __name__ == "__main__":
    with ending_quietly():
        main()
