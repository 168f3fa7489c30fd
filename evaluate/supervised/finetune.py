"""`make finetune root=/my/sounds checkpoint=...`: a student's heads replaced by one that names your own classes.

The authors' main_finetune on sounds of yours, by the same lesson as `make supervised`. One fold is held out and tested.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec, Split
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.scores import Score
from evaluate.supervised.run import HEAD, SupervisedSettings, evaluate_supervised, teach
from shards.cli.command import command
from shards.errors import UserError
from train.checkpoint.checkpoint import load, load_student, save
from train.checkpoint.modelcard import write_card
from train.device.device import require_device
from train.runfolder import RUNS

NAME = "finetuned.pt"


@dataclass
class FinetuneSettings:
    """conf/finetune.yaml. The network is the checkpoint's; `benchmark` says how the sounds lie."""

    benchmark: BenchmarkSpec
    root: Path
    checkpoint: Path
    seconds: float = 5.0
    steps: int = 500
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0
    hold_out: str | None = None
    device: str = "cuda"
    log_every: int = 50
    out: Path | None = None

    def lesson(self) -> SupervisedSettings:
        """The same as settings of `make supervised`. Raises UserError where the checkpoint has no heads."""
        spec = load_student(self.checkpoint)[0].spec
        name = self.root.stem or self.root.resolve().stem
        return SupervisedSettings(
            benchmark=replace(self.benchmark, name=name),
            root=self.root,
            student=spec,
            start=self.checkpoint,
            seconds=self.seconds,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
            device=self.device,
            log_every=self.log_every,
            out=self.out or RUNS / f"finetuned-{spec.name}-{name}",
        )


def run(settings: FinetuneSettings) -> None:
    """Train where there is no network yet, test it on the fold held out, and keep both with its model card."""
    device, lesson = require_device(settings.device), settings.lesson()
    benchmark = hold_out(load_benchmark(lesson.benchmark, lesson.root), settings.hold_out)
    sounds = Recordings(benchmark, load(settings.checkpoint).clip.sample_rate)
    (split,) = benchmark.splits()
    path = lesson.folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        save(path, teach(lesson, sounds, split, device))
    scores = evaluate_supervised(lesson, sounds, lambda settings, split: path)
    scores.save(lesson.folder)
    (score,) = scores.scores
    frequent, share = most_frequent(benchmark, split)
    learned = load(path)
    learned.held_out = {
        "step": lesson.steps,
        "clips": score.recordings,
        "mean": {f"{HEAD}/top1": score.accuracy, f"{HEAD}/top1_mean": share},
    }
    save(path, learned)
    write_card(path.with_name("card.md"), learned, path.name)
    print(describe(score, frequent, share), f"{path}: {len(benchmark.classes)} classes", sep="\n")


def hold_out(benchmark: Benchmark, fold: str | None) -> Benchmark:
    """The same with one fold tested: the one asked for, or the first. Raises UserError."""
    benchmark = benchmark.restricted([fold or benchmark.tested[0]])
    (split,) = benchmark.splits()
    taught = set(benchmark.labels[split.train].tolist())
    missing = [name for label, name in enumerate(benchmark.classes) if label not in taught]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: all recordings are in fold {split.tested}, which is held out to test on. Give each "
            "class two recordings and more"
        )
    return benchmark


def most_frequent(benchmark: Benchmark, split: Split) -> tuple[str, float]:
    """The class that most training recordings have, and how many of the tested ones it is right for."""
    label = int(np.bincount(benchmark.labels[split.train]).argmax())
    return benchmark.classes[label], float((benchmark.labels[split.test] == label).mean())


def describe(score: Score, frequent: str, share: float) -> str:
    """Accuracy on the fold held out, beside what needs no sound."""
    low, high = score.interval
    return (
        f"{score.accuracy:.1%} of {score.recordings} held-out recordings named rightly ({low:.1%} to {high:.1%}); "
        f"{share:.1%} by always saying {frequent}, the most frequent class"
    )


if __name__ == "__main__":
    command(FinetuneSettings, "finetune", run)
