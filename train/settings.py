"""The settings of `make train`, and what of them a run is known by."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from shards.cli.settings import leaves
from shards.loader.catalog import Catalog
from shards.loader.keep import Keep
from shards.loader.streaming import Streaming
from train.data.augment import Augment
from train.device.device import Compile, Precision
from train.model.layers import Layer, StudentSpec
from train.runfolder import Resume, name_run

# What decides the weights; and ...
DECIDING = (
    *("teacher_set", "keep", "batch", "lr", "beta1", "seed", "precision", "augment"),
    *("init", "schedule", "warmup", "clip_norm", "accumulate", "sync_batch_norm"),
)
DECIDING_IN_NAME = ("shards", "student", "loss", "learn_from")  # ... these, in the name's front
DECIDING_STREAMING = ("streaming.reader", "streaming.urls", "streaming.block_shards")


@dataclass
class TrainSettings:
    """The paper's values (section 3.4) where it names one. The first block may not change when a run is resumed."""

    # a folder of shards, of `make teacher-shards`; a path or any fsspec URL
    shards: str = field(kw_only=True, metadata={"example": "outputs/shards/mine"})
    student: StudentSpec = field(kw_only=True)  # the network to train
    learn_from: list[str] | None = None  # heads to learn from, as [objects]; null: all
    # labels of `make relabel` to learn from, by their name; null: those the shards were made with
    teacher_set: str | None = None
    keep: Keep = field(default_factory=Keep)
    # the distance from the teachers: kl (the paper's), l2 (Table 5), torch7 (kl as the authors' code weighs it)
    loss: Literal["kl", "l2", "torch7"] = "kl"
    batch: int = 64  # clips of a step, of all ranks together
    lr: float = 1e-3  # Adam's learning rate
    beta1: float = 0.9  # Adam's first beta
    seed: int = 0  # seed of weights, order and augmentation
    precision: Precision = "auto"  # what the device computes in; auto: bf16 where it has it
    augment: Augment = field(default_factory=Augment)
    # a checkpoint to begin from: its layers, and the heads that fit; a file, or OWNER/NAME[@REVISION] on Hugging
    # Face
    init: Path | None = None
    # course of the learning rate; cosine falls to 0 at the last step
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0  # steps in which the learning rate grows from 0
    clip_norm: float | None = None  # the longest gradient, which longer ones are scaled to; null: any
    sync_batch_norm: bool = False  # of several GPUs: normalise by all ranks' clips together, not each rank by its own
    accumulate: int = 1  # parts in which a batch goes through the network, one after the other, to save memory

    steps: int = 100_000  # training steps
    run: Path | None = None  # the run's folder; null: one in outputs/runs, named after what differs
    resume: Resume = "auto"  # auto: go on with a run that is there; never: refuse
    device: str = "cuda"  # cuda or cpu
    compile: Compile = "auto"  # compile the network: true, false, or auto (where it works)
    deterministic: bool = False  # a GPU gives the same bits each time, more slowly; a CPU does in any case
    streaming: Streaming = field(default_factory=Streaming)
    profile: bool = False  # write trace.json of a few steps into the run's folder
    log_every: int = 50  # steps from one line of the log to the next
    validate_every: int = 1000  # steps from one validation to the next, and one after the last step; 0: none at all
    validate_clips: int = 4096  # held-out clips of a validation; after the last step all are taken. 0: all each time
    save_every: int = 1000  # steps from one last.pt to the next, and one after the last step; 0: only beside a best.pt
    keep_every: int = 0  # keep the network every so many steps, as step-0010000.pt; 0: never

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.log_every) < 1:
            raise ValueError("steps, batch and log_every are at least 1")
        if min(self.validate_every, self.validate_clips, self.save_every, self.keep_every, self.warmup) < 0:
            raise ValueError("validate_every, validate_clips, save_every, keep_every and warmup are at least 0")
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} must divide a batch of {self.batch} clips")
        if self.sync_batch_norm and self.device == "cpu":
            raise ValueError("sync_batch_norm=true is for device=cuda: on a CPU each rank normalises its own clips")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm is above 0, not {self.clip_norm}; null does not clip")
        if self.lr <= 0 or not 0 <= self.beta1 < 1 or self.seed < 0:
            given = f"lr={self.lr:g} beta1={self.beta1:g} seed={self.seed}"
            raise ValueError(f"lr is above 0, beta1 at least 0 and below 1, seed at least 0, not {given}")

    @property
    def folder(self) -> Path:
        """Where the run goes: `run`, or a name of its own for all settings that decide the weights."""
        if self.run is not None:
            return self.run
        differing = {
            key: value
            for key, _, standard in leaves(type(self))
            if (key.partition(".")[0] in DECIDING or key in DECIDING_STREAMING)
            and (value := attrgetter(key)(self)) != standard
        }
        decided = plain(self)
        deciding = {key: decided[key] for key in (*DECIDING, *DECIDING_IN_NAME)} | differing
        if self.schedule == "cosine":
            deciding["steps"] = self.steps
        heads = ["+".join(self.learn_from)] if self.learn_from else []
        return name_run([self.student.name, self.loss, *heads, Path(self.shards).name], differing, deciding)


def plain(settings: TrainSettings) -> dict[str, Any]:
    """The settings as words and numbers, as a checkpoint keeps them."""

    def plained(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plained(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plained(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plained(value) for name, value in asdict(settings).items()}


def record(settings: TrainSettings, catalog: Catalog) -> dict[str, Any]:
    """What must be equal for a run to be resumed; flat, so that a refusal can name what differs."""

    def words(layer: Layer) -> str:
        fields = {name: value for name, value in asdict(layer).items() if value is not None and name != "name"}
        return " ".join(f"{name}={value}" for name, value in fields.items())

    return {
        "student": settings.student.name,
        "student.kind": settings.student.kind,
        **{f"student.{layer.name}": words(layer) for layer in settings.student.through()},
        "loss": settings.loss,
        "learn_from": list(catalog.cards),
        "teacher_set": catalog.teacher_set,
        **{f"keep.{name}": value for name, value in settings.keep.chosen.items()},
        **{f"teacher.{head}": f"{card.architecture} {card.weights}" for head, card in catalog.cards.items()},
        **{f"clip.{name}": value for name, value in asdict(catalog.clip).items()},
        "shards (hash of their contents)": catalog.fingerprint[:16],
        "reader": settings.streaming.reader,
        "block_shards": settings.streaming.block_shards,
        **{name: getattr(settings, name) for name in ("batch", "lr", "beta1", "seed", "precision")},
        **{
            name: getattr(settings, name)
            for name in ("schedule", "warmup", "clip_norm", "accumulate", "sync_batch_norm")
        },
        "init": None if settings.init is None else str(settings.init),
        **({"steps": settings.steps} if settings.schedule == "cosine" else {}),
        **{f"augment.{name}": value for name, value in asdict(settings.augment).items()},
    }
