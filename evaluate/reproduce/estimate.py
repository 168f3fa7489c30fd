"""What `make reproduce` will cost: CPU time, of the scores that are not kept, and the clock where nothing else runs.

How busy the cores will be with other work cannot be known, and is no part of either.

The costs are CPU seconds of the published weights on ESC-10: 400 recordings of 10 s, ten classes, five folds. A
network on a GPU is counted as on the CPU: the classifiers take longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evaluate.benchmarks.benchmark import Benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.model import run_layers
from evaluate.probe.classifiers import parts
from evaluate.probe.features.windows import HOP_SECONDS
from evaluate.probe.run import PAPER_HEADS, EvaluateSettings
from evaluate.probe.untrained import STATISTICS_RECORDINGS
from evaluate.reproduce.cells import probes_of
from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.figures import confusion_probe
from evaluate.reproduce.paper import TABLES
from evaluate.reproduce.score_cache import folder_of, is_kept, recordings_of
from evaluate.reproduce.settings import Missing, ReproduceSettings
from shards.cli.words import amount
from shards.errors import UserError
from shards.format.clip import ClipSpec
from train.checkpoint.checkpoint import build
from train.device.threads import available_threads
from train.model.student import Trunk

SECONDS = 10.0  # of sound in each recording
READ, HEAR, MFCC, FOREST = 4.7 / 400, 6.6 / 400, 3.0 / 400, 3.2 / 400  # a recording
# Five SVMs with C given; of conv4 and conv5 so that the sums are those of idle cores (docs/results.md).
FIT = {"conv4": 16.0, "conv5": 10.0, "pool5": 4.0, "conv6": 2.0, "conv7": 1.0, "conv8": 1.0}
FITTED = 5 * 320 * 25.3 * 10  # what these learn from: folds x recordings x windows of 1 s x classes
FLOPS = 0.608e9 / 0.013  # a second, of a forward pass on one core
PASSES = 20

Evaluations = list[tuple[EvaluateSettings, Benchmark]]


@dataclass(frozen=True)
class Work:
    """CPU seconds: `alone` those that one core works off whatever there are, `shared` those that all cores do."""

    alone: float
    shared: float

    def seconds(self, slower: float, threads: int = 1) -> float:
        """By the clock on so many idle cores; on one of them it is the CPU time."""
        return slower * (self.alone + self.shared / threads)


def estimate(settings: ReproduceSettings, experiments: Experiments) -> str:
    """The line for the user."""
    due, kept = due_and_kept(settings, experiments)
    before = f"{scores_of(kept)} kept from before"
    if due:
        network = build(settings.student, PAPER_HEADS, sample_rate=ClipSpec().sample_rate).eval()
        slower, threads = slowness(network), available_threads()
        works = [work_of(probe, benchmark) for probe, benchmark in due]
        took, clock = (sum(work.seconds(slower, cores) for work in works) for cores in (1, threads))
        counts = sorted({len(benchmark.recordings) for _, benchmark in due})
        recordings = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        line = (
            f"about {in_words(took)} of CPU time, {in_words(clock)} by the clock if nothing else runs on "
            f"{amount(threads, 'core')}: {amount(scores_of(due), 'score')} of {recordings} recordings, {before} "
            "(by the speed of a forward pass here, within a factor of two or so)"
        )
    else:
        line = f"no score to compute, {before}"
    return line + ("; videos and shards come on top" if settings.videos or settings.shards else "")


def due_and_kept(settings: ReproduceSettings, experiments: Experiments) -> tuple[Evaluations, Evaluations]:
    """Every evaluation, once, with its benchmark: those to be computed, and those whose scores are kept."""
    known: dict[tuple[str, Path], Recordings] = {}  # their files are hashed once
    found: dict[Path, tuple[EvaluateSettings, Benchmark]] = {}
    for probe in _probes(settings, experiments):
        with suppress(UserError):  # the cell will say so
            place = (probe.benchmark.name, probe.root)
            recordings = known[place] = known.get(place) or recordings_of(probe)
            found[folder_of(probe, recordings)] = (probe, recordings.benchmark)
    kept = [folder for folder in found if is_kept(folder)]
    return [each for folder, each in found.items() if folder not in kept], [found[folder] for folder in kept]


def scores_of(probes: Evaluations) -> int:
    """One a layer, and one of MFCC statistics, which `probe_of` gives a layer too."""
    return sum(len(probe.layers) for probe, _ in probes)


def _probes(settings: ReproduceSettings, experiments: Experiments) -> Iterator[EvaluateSettings]:
    """Of all cells of the tables asked for, and of Figure 3; none where something is missing."""
    tables = [table for table in TABLES if table.number in settings.tables]
    for row, column in [(row, column) for table in tables for row in table.rows for column in table.columns]:
        with suppress(Missing, UserError):
            yield from probes_of(row, column, settings, experiments)[0]
    if 3 in settings.figures:
        with suppress(Missing, UserError):
            yield confusion_probe(settings, experiments)


def work_of(probe: EvaluateSettings, benchmark: Benchmark) -> Work:
    """Recordings x (reading, hearing by each network, the SVM of each layer), with the search for C where it is due."""
    spec, splits, count = benchmark.spec, benchmark.splits(), len(benchmark.recordings)
    longer = spec.seconds / SECONDS
    mfcc, forest = ("mfcc" in probe.baselines or "forest" in probe.baselines), "forest" in probe.baselines
    alone = count * (longer * (READ + MFCC * mfcc) + FOREST * forest)
    windows = (spec.seconds - spec.window_seconds) / HOP_SECONDS + 1
    trained = sum(len(split.train) for split in splits)
    # A window of 5 s has five times the numbers of one of 1 s.
    fitted = trained * windows * spec.window_seconds * len(benchmark.classes) / FITTED
    fit = fitted * sum(FIT.get(layer, max(FIT.values())) for layer in probe.layers)
    # Each C is tried on all inner folds but one, in turn: as much as so many SVMs of all of them but one ...
    search = len(probe.grid) * max(1, len(parts(splits[0].inner)) - 1) if probe.C is None else 0
    heard = fits = shared = 0.0
    if probe.checkpoint is not None:
        heard, fits = count, 1
        shared = search * fit / min(len(splits), 2)  # ... and one serves two folds, where several are tested
    if "random" in probe.baselines:  # normalised, and run, anew for each split
        heard += probe.seeds * sum(count + min(len(split.train), STATISTICS_RECORDINGS) for split in splits)
        fits += probe.seeds
        shared += probe.seeds * search * fit
    return Work(alone + fits * fit, shared + heard * longer * HEAR)


def slowness(network: Trunk, clock: Callable[[], float] = time.process_time) -> float:
    """How many times the CPU time of where the costs were measured a forward pass takes here, on one core.

    The mean of PASSES after a first.
    """
    sound = np.random.default_rng(0).normal(0, 1000, (1, round(SECONDS * network.sample_rate))).astype(np.int16)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_layers(network, sound, network.layers[-1:])
        began = clock()
        for _ in range(PASSES):
            run_layers(network, sound, network.layers[-1:])
        took = clock() - began
    finally:
        torch.set_num_threads(before)
    return took / PASSES * FLOPS / network.flops(sound.shape[1])


def in_words(seconds: float) -> str:
    """`1 second`, `110 seconds`, `14 minutes`, `3 hours`."""
    if seconds < 119.5:
        return amount(max(1, round(seconds)), "second")
    return amount(round(seconds / 60), "minute") if seconds < 5400 else amount(round(seconds / 3600), "hour")
