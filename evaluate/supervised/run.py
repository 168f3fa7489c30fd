"""Training on a benchmark's own labels, the baseline of Table 5: from scratch, or fine-tuned from a checkpoint.

A network per tested fold, trained by stage two's loop and kept with the folds whose labels it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluate.benchmarks.benchmark import BenchmarkSpec, Split
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.model import SUPERVISED, EvaluatedModel
from evaluate.probe.classifiers import FittedClassifier
from evaluate.probe.crossvalidation import Source, evaluate_folds
from evaluate.probe.scores import Scores
from evaluate.probe.windows import Windows
from shards.errors import require_same
from shards.files import sha256_of
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import Checkpoint, load_network, load_student, save
from train.checkpoint.modelcard import LABELS
from train.device.device import arithmetic, require_device
from train.model.layers import Layer, StudentSpec
from train.model.student import Student, scaled
from train.trainer.loop import train
from train.trainer.meter import Meter, Reading

HEAD = "classes"


@dataclass
class SupervisedSettings:
    """conf/supervised.yaml: the authors' fine-tuning, where they say something."""

    benchmark: BenchmarkSpec
    root: Path
    student: StudentSpec
    start: Path | None = None
    seconds: float = 5.0
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0
    folds: list[str] = field(default_factory=list)
    device: str = "cuda"
    log_every: int = 50
    out: Path | None = None

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class Excerpts:
    """A batch: waveforms int16 (batch, samples) and labels (batch,), on the device."""

    waveforms: Tensor
    labels: Tensor


def run(settings: SupervisedSettings) -> None:
    """Train a network per tested fold, where there is none yet, and write scores.json beside them."""
    device = require_device(settings.device)
    benchmark = load_benchmark(settings.benchmark, settings.root)
    benchmark = benchmark.restricted(settings.folds) if settings.folds else benchmark
    sounds = Recordings(benchmark, ClipSpec().sample_rate if settings.start is None else _rate_of(settings.start))
    settings.folder.mkdir(parents=True, exist_ok=True)
    for split in benchmark.splits():
        if not path_of(settings, split).is_file():
            save(path_of(settings, split), teach(settings, sounds, split, device))
    scores = evaluate_supervised(settings, sounds, path_of)
    print(*scores.scores, f"{scores.save(settings.folder)}: 1 score on {scores.benchmark}", sep="\n")


def path_of(settings: SupervisedSettings, split: Split) -> Path:
    """Where the network is that has not seen a fold."""
    return settings.folder / f"{split.tested}.pt"


def teach(settings: SupervisedSettings, sounds: Recordings, split: Split, device: torch.device) -> Checkpoint:
    """A network that learned the labels of a split's training recordings, as a checkpoint that says so."""
    torch.manual_seed(settings.seed)
    network = build_network(settings, sounds).to(device).train()
    print(f"{network.spec.name}, fold {split.tested} held out: {len(split.train)} recordings", flush=True)

    def report(step: int, reading: Reading) -> None:
        print(f"step {step} of {settings.steps}: loss {reading.loss:.3f}", flush=True)

    def error(logits: Tensor, batch: Excerpts) -> Tensor:
        return F.cross_entropy(logits.mean(dim=2).float(), batch.labels)

    train(
        lambda batch: network(scaled(batch.waveforms))[HEAD],
        excerpts(settings, sounds, split, device),
        error,
        torch.optim.Adam(network.parameters(), lr=settings.lr),
        Meter(device),
        steps=settings.steps,
        autocast=arithmetic(device, "auto"),
        report=report,
        report_every=settings.log_every,
    )
    return checkpoint_of(settings, sounds, split, network)


def build_network(settings: SupervisedSettings, sounds: Recordings) -> Student:
    """A network whose output layer hears one excerpt whole, as the authors' conv(1024, classes, 4) does in SoundNet8.

    With `start`, the hidden layers are those of that checkpoint.
    """
    samples = round(settings.seconds * sounds.sample_rate)
    start = None if settings.start is None else load_student(settings.start)[0]
    spec = settings.student if start is None else start.spec
    steps = spec.steps(samples, spec.layers[-1].name)
    spec = replace(spec, output=Layer(spec.output.name, kernel=max(1, steps), stride=1))
    heads = {HEAD: len(sounds.benchmark.classes)}
    network = Student(spec, heads, sample_rate=sounds.sample_rate, seed=settings.seed)
    network.require_length(samples, spec.output.name)
    if start is not None:
        network.blocks.load_state_dict(start.blocks.state_dict())
    return network


def excerpts(
    settings: SupervisedSettings, sounds: Recordings, split: Split, device: torch.device
) -> Iterator[Excerpts]:
    """Endless batches: recordings drawn with replacement, each cut at a random place."""
    random = np.random.default_rng((settings.seed, sounds.benchmark.tested.index(split.tested)))
    samples = round(settings.seconds * sounds.sample_rate)
    labels = torch.from_numpy(sounds.benchmark.labels)
    while True:
        chosen = random.choice(split.train, settings.batch)
        waveforms = np.empty((settings.batch, samples), np.int16)
        for row, index in enumerate(chosen):
            recording = sounds.repeated(index)
            first = random.integers(len(recording) - samples + 1)
            waveforms[row] = recording[first : first + samples]
        yield Excerpts(torch.from_numpy(waveforms).to(device), labels[chosen].to(device))


def checkpoint_of(settings: SupervisedSettings, sounds: Recordings, split: Split, network: Student) -> Checkpoint:
    """The network with what it was trained on, so that testing it there can be refused.

    Its training mean is the share of each class, as that of a student is the mean of its teachers' posteriors.
    """
    benchmark = sounds.benchmark
    seen = [benchmark.recordings[index] for index in split.train]
    card = TeacherCard(LABELS, benchmark.spec.name, sounds.sha256, {}, benchmark.classes)
    shares = np.bincount(benchmark.labels[split.train], minlength=len(benchmark.classes)) / len(split.train)
    return Checkpoint(
        spec=network.spec,
        clip=ClipSpec(sounds.sample_rate, settings.seconds, 1),
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
            **_facts(settings, sounds),
        },
    )


@dataclass(frozen=True)
class OwnOutput:
    """The network's own log posteriors decide; there is nothing left to train."""

    name: str = "its own output"

    def train(self, windows: Windows, labels: object, inner: object) -> FittedClassifier:
        return FittedClassifier(lambda asked: asked.mean(asked.values.astype(np.float64)))


def evaluate_supervised(
    settings: SupervisedSettings, sounds: Recordings, path_of: Callable[[SupervisedSettings, Split], Path]
) -> Scores:
    """Each fold named by the network that has not seen it. Raises UserError for one of other settings or data."""
    device = require_device(settings.device)

    def of(split: Split) -> dict[str, Windows]:
        path = path_of(settings, split)
        subject = EvaluatedModel.load(path, str(device))
        wanted, found = _facts(settings, sounds), _facts_of(subject.checkpoint)
        require_same(wanted, found, str(path), f"Delete {path} to train it again.")
        subject.require_unseen(sounds.benchmark.restricted([split.tested]))
        return {"": posteriors(subject, sounds, split, device)}

    (score,) = evaluate_folds(sounds.benchmark, Source(f"supervised {settings.student.name}", of), OwnOutput())
    record = {"student": settings.student.name, "sha256": sounds.sha256, "config": _facts(settings, sounds)}
    return Scores(sounds.benchmark.spec.name, sounds.sha256, list(sounds.benchmark.classes), record, [score])


def posteriors(subject: EvaluatedModel, sounds: Recordings, split: Split, device: torch.device) -> Windows:
    """Log posteriors (steps, classes) of the tested recordings, heard whole; of the others a single step of zeros."""
    name, classes = subject.network.spec.output.name, len(sounds.benchmark.classes)
    parts = [np.zeros((1, classes), np.float32) for _ in sounds.benchmark.recordings]
    for index in split.test:
        waveform = torch.from_numpy(sounds.repeated(index))[None].to(device)
        with torch.inference_mode():
            parts[index] = subject.network.features(scaled(waveform), [name])[name][0].T.cpu().numpy()
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Windows(np.concatenate(parts), owners)


def _facts(settings: SupervisedSettings, sounds: Recordings) -> dict[str, object]:
    """What must be equal for a network of an earlier run to stand for this one."""
    start = None if settings.start is None else f"{settings.start.name} ({sha256_of(settings.start)[:16]})"
    names = ("seconds", "steps", "batch", "lr", "seed")
    facts = {"student": settings.student.name, "start": start, "data": sounds.sha256[:16]}
    return {**facts, **{name: getattr(settings, name) for name in names}}


def _facts_of(checkpoint: Checkpoint) -> dict[str, object]:
    return {name: value for name, value in checkpoint.config.items() if name != SUPERVISED}


def _rate_of(start: Path) -> int:
    return load_network(start)[1].clip.sample_rate
