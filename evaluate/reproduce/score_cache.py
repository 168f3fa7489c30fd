"""Scores computed before, by a hash of everything that decides them, so that pages are redrawn in seconds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version

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
    benchmark = load_benchmark(settings.benchmark, settings.root)
    facts = {
        "format": FORMAT,
        "benchmark": asdict(benchmark.spec),
        # The rate goes with the checkpoint; any one will do to know the files by.
        "data": Recordings(benchmark, ClipSpec().sample_rate).sha256,
        "groups": [(each.group, sorted(each.left_out)) for each in benchmark.recordings],
        "checkpoint": None if settings.checkpoint is None else sha256_of(checkpoint_file(settings.checkpoint)),
        "student": None if settings.checkpoint is not None else asdict(settings.student),
        "settings": {name: value for name, value in asdict(settings).items() if name not in PLACES},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    folder = settings.cache / "scores" / key
    if (folder / NAME).is_file():
        return Scores.load(folder)
    scores = evaluate(settings)
    scores.save(folder)
    return scores
