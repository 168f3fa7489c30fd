"""Scores computed before, by a hash of everything that decides them, so that pages are redrawn in seconds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.run import EvaluateSettings, evaluate
from evaluate.probe.scores import FORMAT, LIBRARIES, NAME, Scores
from shards.files import sha256_of
from shards.format.clip import ClipSpec
from train.checkpoint.hub import checkpoint_file

# Settings that decide no number, or that the key has by their content.
PLACES = ("benchmark", "root", "student", "checkpoint", "layer", "device", "cache", "out")


def cached_scores(settings: EvaluateSettings) -> Scores:
    """As `evaluate`, but once for each combination of data, weights, settings and library versions."""
    folder = folder_of(settings, recordings_of(settings))
    if is_kept(folder):
        return Scores.load(folder)
    scores = evaluate(settings)
    scores.save(folder)
    return scores


def recordings_of(settings: EvaluateSettings) -> Recordings:
    """To know the files by: the rate goes with the checkpoint; here any one will do. Raises UserError."""
    return Recordings(load_benchmark(settings.benchmark, settings.root), ClipSpec().sample_rate)


def is_kept(folder: Path) -> bool:
    return (folder / NAME).is_file()


def folder_of(settings: EvaluateSettings, recordings: Recordings) -> Path:
    """Where the scores of an evaluation of these recordings are kept, or will be."""
    benchmark = recordings.benchmark
    facts = {
        "format": FORMAT,
        "benchmark": asdict(benchmark.spec),
        "data": recordings.sha256,
        "groups": [(each.group, sorted(each.left_out)) for each in benchmark.recordings],
        "checkpoint": None if settings.checkpoint is None else sha256_of(checkpoint_file(settings.checkpoint)),
        "student": None if settings.checkpoint is not None else asdict(settings.student),
        "settings": {name: value for name, value in asdict(settings).items() if name not in PLACES},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    return settings.cache / "scores" / key
