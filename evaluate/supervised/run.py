"""Training on a benchmark's own labels, the baseline of Table 5: from scratch, or fine-tuned from a checkpoint.

A network per tested fold, trained by stage two's loop and kept with the recordings whose labels it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluate.benchmarks.benchmark import BenchmarkSpec, Split
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.inference.features import whole_features
from evaluate.model import SUPERVISED, EvaluatedModel
from evaluate.probe.classifiers import FittedClassifier
from evaluate.probe.crossvalidation import Source, evaluate_folds
from evaluate.probe.features.windows import Windows, join
from evaluate.probe.scores import Scores
from shards.cli.words import amount
from shards.errors import require_same
from shards.files import sha256_of, writable_folder
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import Checkpoint, load, load_student, save
from train.checkpoint.hub import checkpoint_file
from train.checkpoint.modelcard import LABELS
from train.device.device import Compile, arithmetic, compiler, require_device
from train.model.frontend import Frontend
from train.model.layers import Layer, StudentSpec
from train.model.student import Student, Trunk
from train.trainer.loop import GradientDescent, train
from train.trainer.meter import Meter, Reading

HEAD = "classes"
SEVERAL_CLASSES = frozenset({"benchmark=fsd50k"})  # settings that these networks, which name one class, do not take


@dataclass
class SupervisedSettings:
    """conf/supervised.yaml: the authors' fine-tuning, where they say something."""

    not_offered = SEVERAL_CLASSES

    benchmark: BenchmarkSpec  # the benchmark
    root: Path  # the benchmark's folder; of benchmark=folder also a CSV file
    student: StudentSpec  # the network to train from scratch
    # a checkpoint to begin from, a file or OWNER/NAME[@REVISION] on Hugging Face; null: from scratch
    start: Path | None = None
    seconds: float = 5.0  # length of one excerpt; 5 in the authors' fine-tuning
    steps: int = 2000  # training steps for each tested fold
    batch: int = 64  # excerpts of a training step
    lr: float = 1e-3  # Adam's learning rate
    seed: int = 0  # seed of weights and excerpts
    folds: list[str] = field(default_factory=list)  # folds to test; empty: all
    device: str = "cuda"  # cuda or cpu
    compile: Compile = "auto"  # compile the network: true, false, or auto (where it works)
    log_every: int = 50  # steps from one line of the log to the next
    out: Path | None = None  # folder of checkpoints and scores; null: outputs/runs/supervised-<student>-<benchmark>

    def __post_init__(self) -> None:
        require_one_class(self.benchmark)
        if min(self.steps, self.batch, self.log_every) < 1 or self.lr <= 0:
            raise ValueError("steps, batch and log_every are at least 1, lr is above 0")
        if not 0 < self.seconds <= self.benchmark.seconds:
            raise ValueError(
                f"seconds={self.seconds:g} of one excerpt must be above 0 and at most "
                f"benchmark.seconds={self.benchmark.seconds:g}, to which shorter recordings are repeated"
            )

    @property
    def folder(self) -> Path:
        return self.out or Path("outputs/runs") / f"supervised-{self.student.name}-{self.benchmark.name}"


def require_one_class(benchmark: BenchmarkSpec) -> None:
    """Raise ValueError for multi-label data."""
    if benchmark.multilabel:
        raise ValueError(
            f"{benchmark.name} has several classes a recording, and a network learns one here: take "
            "`python -m evaluate` for it, or a benchmark with one class a recording"
        )


@dataclass(frozen=True)
class Excerpts:
    """A batch: waveforms int16 (batch, samples) and labels (batch,), on the device."""

    waveforms: Tensor
    labels: Tensor


def run(settings: SupervisedSettings) -> None:
    """Train a network per tested fold, where there is none yet, and write scores.json beside them."""
    device = require_device(settings.device)
    if settings.start is not None:
        settings = replace(settings, start=checkpoint_file(settings.start))
    benchmark = load_benchmark(settings.benchmark, settings.root)
    benchmark = benchmark.restricted(settings.folds) if settings.folds else benchmark
    recordings = Recordings(
        benchmark, (ClipSpec() if settings.start is None else load(settings.start).clip).sample_rate
    )
    writable_folder(settings.folder)
    for split in benchmark.splits():
        if not path_of(settings, split).is_file():
            save(path_of(settings, split), train_fold(settings, recordings, split, device))
    scores = evaluate_supervised(settings, recordings, partial(path_of, settings))
    print(*scores.scores, f"{scores.save(settings.folder)}: 1 score on {scores.benchmark}; {scores.grouping}", sep="\n")


def path_of(settings: SupervisedSettings, split: Split) -> Path:
    """Where the network is that has not seen a fold."""
    return settings.folder / f"{split.tested}.pt"


def train_fold(settings: SupervisedSettings, recordings: Recordings, split: Split, device: torch.device) -> Checkpoint:
    """A network that learned the labels of a split's training recordings, as a checkpoint that says so."""
    torch.manual_seed(settings.seed)
    network = build_network(settings, recordings).to(device).train()
    learned, held_out = amount(len(split.train), "recording"), len(split.test)
    print(f"{network.spec.name} learns from {learned}; fold {split.tested} held out: {held_out}", flush=True)

    def report(step: int, reading: Reading) -> None:
        print(f"step {step} of {settings.steps}: loss {reading.loss:.3f}", flush=True)

    def error(logits: Tensor, batch: Excerpts) -> Tensor:
        return F.cross_entropy(logits.mean(dim=2).float(), batch.labels)

    fast = compiler(settings.compile, device)(Frontend(network))
    descent = GradientDescent(
        lambda batch: fast(batch.waveforms)[HEAD],
        error,
        torch.optim.Adam(network.parameters(), lr=settings.lr),
        autocast=arithmetic(device, "auto"),
    )
    coming = excerpts(settings, recordings, split, device)
    train(descent, coming, Meter(device), steps=settings.steps, report=report, report_every=settings.log_every)
    return checkpoint_of(settings, recordings, split, network)


def build_network(settings: SupervisedSettings, recordings: Recordings) -> Student:
    """A network with one output step for an excerpt, as the authors' conv(1024, classes, 4) has in SoundNet8.

    With `start`, the hidden layers are those of that checkpoint.
    """
    samples = round(settings.seconds * recordings.sample_rate)
    start = None if settings.start is None else load_student(settings.start)[0]
    spec = settings.student if start is None else start.spec
    steps = spec.steps(samples, spec.layers[-1].name)
    spec = replace(spec, output=Layer(spec.output.name, kernel=max(1, steps), stride=1))
    heads = {HEAD: len(recordings.benchmark.classes)}
    network = Student(spec, heads, sample_rate=recordings.sample_rate, seed=settings.seed)
    network.require_length(samples, spec.output.name)
    if start is not None:
        network.blocks.load_state_dict(start.blocks.state_dict())
    return network


def excerpts(
    settings: SupervisedSettings, recordings: Recordings, split: Split, device: torch.device
) -> Iterator[Excerpts]:
    """Endless batches: recordings drawn with replacement, each cut at a random place."""
    random = np.random.default_rng((settings.seed, recordings.benchmark.tested.index(split.tested)))
    samples = round(settings.seconds * recordings.sample_rate)
    labels = torch.from_numpy(recordings.benchmark.labels)
    while True:
        chosen = random.choice(split.train, settings.batch)
        waveforms = np.empty((settings.batch, samples), np.int16)
        for row, index in enumerate(chosen):
            recording = recordings.repeated(index)
            first = random.integers(len(recording) - samples + 1)
            waveforms[row] = recording[first : first + samples]
        yield Excerpts(torch.from_numpy(waveforms).to(device), labels[chosen].to(device))


def checkpoint_of(settings: SupervisedSettings, recordings: Recordings, split: Split, network: Student) -> Checkpoint:
    """The network with what it was trained on, so that testing it there can be refused.

    Its training mean is the share of each class, as that of a student is the mean of its teachers' posteriors.
    """
    benchmark = recordings.benchmark
    seen = [benchmark.recordings[index] for index in split.train]
    card = TeacherCard(LABELS, benchmark.spec.name, recordings.sha256, {}, benchmark.classes)
    shares = np.bincount(benchmark.labels[split.train], minlength=len(benchmark.classes)) / len(split.train)
    return Checkpoint(
        spec=network.spec,
        clip=ClipSpec(recordings.sample_rate, settings.seconds, 1),
        teachers={HEAD: card},
        network=network.state_dict(),
        training_mean={HEAD: torch.from_numpy(shares).float()},
        position={"step": settings.steps, "consumed": settings.steps * settings.batch, "seed": settings.seed},
        config={
            SUPERVISED: {
                "benchmark": benchmark.spec.name,
                "folds": sorted({recording.fold for recording in seen}),
                "recordings": [recording.digest for recording in seen],
            },
            **_facts(settings, recordings),
        },
    )


@dataclass(frozen=True)
class OwnOutput:
    """The network's own log posteriors decide; there is nothing left to train."""

    name: str = "its own output"

    def fit(self, windows: Windows, labels: object, inner: object) -> FittedClassifier:
        return FittedClassifier(lambda tested: tested.mean(tested.values.astype(np.float64)))


def evaluate_supervised(
    settings: SupervisedSettings, recordings: Recordings, path_of: Callable[[Split], Path]
) -> Scores:
    """Each fold classified by the network that has not seen it. Raises ContractError for one trained otherwise."""
    device = require_device(settings.device)

    def of(split: Split) -> dict[str, Windows]:
        path = path_of(split)
        model = EvaluatedModel.load(path, str(device))
        found = {name: value for name, value in model.checkpoint.config.items() if name != SUPERVISED}
        require_same(_facts(settings, recordings), found, str(path), f"Delete {path} to train it again.")
        model.require_unseen(recordings.benchmark.restricted([split.tested]))
        return {"": log_posteriors(model.network, recordings, split)}

    (score,) = evaluate_folds(recordings.benchmark, Source(f"supervised {settings.student.name}", of), OwnOutput())
    record = {"student": settings.student.name, "sha256": recordings.sha256, "config": _facts(settings, recordings)}
    return Scores.of(recordings, record, [score])


def log_posteriors(network: Trunk, recordings: Recordings, split: Split) -> Windows:
    """Log posteriors (steps, classes) of the tested recordings, each whole; of the others a single step of zeros."""
    name, classes = network.spec.output.name, len(recordings.benchmark.classes)
    parts = [np.zeros((1, classes), np.float32) for _ in recordings.benchmark.recordings]
    for index in split.test:
        parts[index] = whole_features(network, [name], recordings.repeated(index))[name].T
    return join(parts)


def _facts(settings: SupervisedSettings, recordings: Recordings) -> dict[str, object]:
    """What must be equal for a network of an earlier run to stand for this one."""
    start = None if settings.start is None else f"{settings.start.name} ({sha256_of(settings.start)[:16]})"
    names = ("seconds", "steps", "batch", "lr", "seed")
    facts = {"student": settings.student.name, "start": start, "data": recordings.sha256[:16]}
    return {**facts, **{name: getattr(settings, name) for name in names}}
