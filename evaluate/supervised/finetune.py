"""`make finetune root=/my/sounds checkpoint=...`: a student's heads replaced by one that names your own classes.

The authors' main_finetune on sounds of yours, trained as `make supervised` does. One fold is held out and tested.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.supervised.run import (
    HEAD,
    SEVERAL_CLASSES,
    SupervisedSettings,
    evaluate_supervised,
    require_one_class,
    train_fold,
)
from shards.cli.command import command
from shards.cli.words import amount
from shards.errors import UserError
from shards.files import writable_folder
from train.checkpoint.checkpoint import load, load_student, save
from train.checkpoint.hub import checkpoint_file
from train.checkpoint.modelcard import write_card
from train.device.device import Compile, require_device
from train.runfolder import RUNS

NAME = "finetuned.pt"


@dataclass
class FinetuneSettings:
    """conf/finetune.yaml. The network is the checkpoint's; `benchmark` says how the sounds lie."""

    not_offered = SEVERAL_CLASSES

    benchmark: BenchmarkSpec  # how the sounds lie
    # a folder with a folder of sounds for each class (sub-folders: takes of one source), or a CSV file with path, label
    # and perhaps fold or split, and group
    root: Path
    # the checkpoint whose hidden layers to begin with; a file, or OWNER/NAME[@REVISION] on Hugging Face
    checkpoint: Path
    seconds: float = 5.0  # length of one excerpt; 5 in the authors' fine-tuning
    steps: int = 500  # training steps; on a CPU take fewer
    batch: int = 64  # excerpts of a training step; on a CPU take fewer
    lr: float = 1e-3  # Adam's learning rate
    seed: int = 0  # seed of new weights and excerpts
    # the fold to test on; null: `test` where there is one, or else a fifth of every class, groups kept together
    hold_out: str | None = None
    device: str = "cuda"  # cuda or cpu
    compile: Compile = "auto"  # compile the network: true, false, or auto (where it works)
    log_every: int = 50  # steps from one line of the log to the next
    out: Path | None = None  # folder of the checkpoint; null: outputs/runs/finetuned-<student>-<name of root>

    def __post_init__(self) -> None:
        require_one_class(self.benchmark)

    def as_supervised(self) -> SupervisedSettings:
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
            compile=self.compile,
            log_every=self.log_every,
            out=self.out or RUNS / f"finetuned-{spec.name}-{name}",
        )


def run(settings: FinetuneSettings) -> None:
    """Train where there is no network yet, test it on the fold held out, and keep both with its model card."""
    device = require_device(settings.device)
    settings = replace(settings, checkpoint=checkpoint_file(settings.checkpoint))
    training = settings.as_supervised()
    benchmark = hold_out(load_benchmark(training.benchmark, training.root), settings.hold_out)
    recordings = Recordings(benchmark, load(settings.checkpoint).clip.sample_rate)
    (split,) = benchmark.splits()
    path = writable_folder(training.folder) / NAME
    if not path.is_file():
        save(path, train_fold(training, recordings, split, device))
    scores = evaluate_supervised(training, recordings, lambda split: path)
    scores.save(training.folder)
    (score,) = scores.scores
    label = int(np.bincount(benchmark.labels[split.train]).argmax())  # of the most frequent class
    share = float((benchmark.labels[split.test] == label).mean())  # of the tested recordings, which it is right for
    learned = load(path)
    learned.held_out = {
        "step": training.steps,
        "clips": score.recordings,
        "mean": {f"{HEAD}/top1": score.value, f"{HEAD}/top1_mean": share},
    }
    save(path, learned)
    write_card(path.with_name("card.md"), learned, path.name)
    low, high = score.interval
    print(
        f"{score.value:.1%} of {amount(score.recordings, 'held-out recording')} named rightly "
        f"({low:.1%} to {high:.1%}); {share:.1%} by always saying {benchmark.classes[label]}, the most frequent class"
    )
    print(f"{path}: {len(benchmark.classes)} classes; {benchmark.grouping}")


def hold_out(benchmark: Benchmark, fold: str | None) -> Benchmark:
    """The same with one fold tested: the one asked for, or the first. Raises UserError."""
    benchmark = benchmark.restricted([fold or benchmark.tested[0]])
    (split,) = benchmark.splits()
    known = set(benchmark.labels[split.train].tolist())
    missing = [name for label, name in enumerate(benchmark.classes) if label not in known]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: all recordings are in fold {split.tested}, which is held out to test on. Give each "
            "class two recordings (or groups) and more"
        )
    return benchmark


if __name__ == "__main__":
    command(FinetuneSettings, "finetune", run)
