"""What cheaper frames cost in labels: CPU time of each way to sample a window, beside how far its label moves."""

from __future__ import annotations

import argparse
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from evaluate.bench.video.decoding import EXTENSIONS, cpu_seconds, machine
from evaluate.bench.workloads import TEACHERS, settings_of
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.resources import heads_of
from pipeline.teachers.cards import cards
from pipeline.teachers.teacher import Teacher
from shards.cli.pipes import ending_quietly
from shards.format.clip import ClipSpec
from shards.media.rejects import UnreadableMedia

Labels: TypeAlias = NDArray[np.float64]  # posteriors (frames, classes) of a film, equally many frames for each window
FRAMES = 20  # of a window: together they are what it shows
LEAST = 1e-12  # posterior, under the logarithm


@dataclass(frozen=True)
class Way:
    """One way to sample a window."""

    name: str
    reading: DecodeSettings = field(default_factory=DecodeSettings)
    frames_per_window: int = 1

    @property
    def clip(self) -> ClipSpec:
        return ClipSpec(frames_per_window=self.frames_per_window)


EXACT = Way("exact")
WAYS = [
    EXACT,
    *(Way(f"tolerance, {seconds:g} s", DecodeSettings("tolerance", seconds)) for seconds in (0.5, 1.0, 2.49)),
    Way("keyframe", DecodeSettings("keyframe")),
    Way("exact, 2 frames", frames_per_window=2),
]
WHOLE = Way(f"{FRAMES} frames a window", frames_per_window=FRAMES)


@dataclass(frozen=True)
class Film:
    """CPU seconds of each way, round by round, and the labels by each way."""

    seconds: list[dict[Way, float]]
    labels: dict[Way, Labels]
    whole: Labels  # of FRAMES frames a window

    def windows(self, way: Way) -> Labels:
        """The labels of the windows, (windows, classes): the mean over each one's frames."""
        return window_means(self.labels[way], way.frames_per_window)


def nats(truth: Labels, label: Labels) -> NDArray[np.float64]:
    """KL divergence of each row of `label` from that of `truth`, (rows,)."""
    ratio = np.log(np.maximum(truth, LEAST)) - np.log(np.maximum(label, LEAST))
    return np.asarray((truth * ratio).sum(axis=1))


def window_means(labels: Labels, each: int) -> Labels:
    return np.asarray(labels.reshape(-1, each, labels.shape[1]).mean(axis=1))


def neighbours(labels: Labels, each: int) -> NDArray[np.float64]:
    """How far each frame's label lies from that of the frame before it in its window."""
    windows = labels.reshape(-1, each, labels.shape[1])
    before, after = (part.reshape(-1, labels.shape[1]) for part in (windows[:, :-1], windows[:, 1:]))
    return nats(before, after)


def pictures_of(path: Path, way: Way, view: ResizeCrop) -> Iterator[NDArray[np.uint8]]:
    """Of each clip its pictures, (frames, crop, crop, 3). Raises UnreadableMedia."""
    for clip in VideoReader(path, way.clip, [view], way.reading).clips():
        yield clip.pictures[0]


def measure(path: Path, rounds: int, teacher: Teacher) -> Film:
    """Raises UnreadableMedia."""
    view = teacher.transform.view

    def labels(way: Way) -> Labels:
        return np.concatenate([teacher.posteriors(each) for each in pictures_of(path, way, view)]).astype(np.float64)

    def seconds(way: Way) -> float:
        return cpu_seconds(lambda film: deque(pictures_of(film, way, view), maxlen=0).clear(), path)

    by_way, whole = {way: labels(way) for way in WAYS}, labels(WHOLE)
    turns = [WAYS[index % len(WAYS) :] + WAYS[: index % len(WAYS)] for index in range(rounds)]
    return Film([{way: seconds(way) for way in turn} for turn in turns], by_way, whole)


def report(films: list[Film], console: Console) -> None:
    windows = sum(len(film.windows(EXACT)) for film in films)
    table = Table(
        "sampling", "times cheaper", "nats from the centre's label", "nats from the window's mean",
        title=f"{len(films)} films, {windows} windows; {TEACHERS}",
    )  # fmt: skip
    for way in WAYS:
        ratios = [statistics.median(each[EXACT] / each[way] for each in film.seconds) for film in films]
        from_centre = np.concatenate([nats(film.windows(EXACT), film.windows(way)) for film in films])
        from_mean = np.concatenate([nats(window_means(film.whole, FRAMES), film.windows(way)) for film in films])
        table.add_row(
            way.name, f"{statistics.median(ratios):.2f}", f"{from_centre.mean():.3f}", f"{from_mean.mean():.3f}"
        )
    console.print(table)
    apart = np.concatenate([neighbours(film.whole, FRAMES) for film in films]).mean()
    spacing = EXACT.clip.window_seconds / FRAMES
    console.print(f"frames of a window that are {spacing:g} s apart: {apart:.3f} nats from each other")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluate.bench.video.sampling", description=__doc__)
    parser.add_argument("settings", nargs="+", help="videos=FOLDER rounds=3")
    settings = dict(word.partition("=")[::2] for word in parser.parse_args().settings)
    if settings.keys() - {"rounds"} != {"videos"}:
        parser.error(f"settings are videos=FOLDER and rounds=3, not {', '.join(settings)}")
    console = Console(soft_wrap=True)
    console.print(machine())
    chosen = settings_of(Path(), Path()).teachers
    ((spec, card),) = heads_of(chosen, cards(chosen)).values()
    teacher, films = Teacher(spec, card, "cpu"), []
    torch.set_num_threads(1)
    for path in sorted(path for path in Path(settings["videos"]).rglob("*") if path.suffix.lower() in EXTENSIONS):
        try:
            films.append(measure(path, int(settings.get("rounds", "3")), teacher))
        except UnreadableMedia as reason:
            console.print(f"{path.name} is left out: {reason}")
    if not films:
        parser.error(f"{settings['videos']} holds no film that can be read")
    report(films, console)


if __name__ == "__main__":
    with ending_quietly():
        main()
