"""A checkpoint: everything needed to use a network or to resume its training, in one file of plain values and tensors.

A file called `.safetensors` is one too (safetensors_file.py): the same without what only its run needs.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shards.cli.settings import SettingsError
from shards.cli.settings import build as typed
from shards.errors import ContractError, UserError
from shards.files import write_whole
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.safetensors_file import SUFFIX, pack, unpack
from train.model.autoencoder import DEEPEST, Autoencoder
from train.model.layers import StudentSpec
from train.model.student import Student, Trunk

FORMAT = 1
# What reading raises where a file is no checkpoint, damaged, or made by hand.
MALFORMED: tuple[type[Exception], ...] = (
    *(SettingsError, pickle.UnpicklingError, EOFError),
    *(AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)
UNREADABLE: tuple[type[Exception], ...] = (*MALFORMED, OSError)
TOP = 5  # a validation's measures are KL, agreement with the first class, and with the first TOP


@dataclass
class Checkpoint:
    """A network and where it comes from. `spec.kind` says what `network` is the state of."""

    spec: StudentSpec
    clip: ClipSpec
    teachers: dict[str, TeacherCard]  # head -> card, in the order of the heads; empty for an autoencoder
    network: dict[str, Tensor]
    training_mean: dict[str, Tensor] | None = None  # head -> mean posterior of the training set (classes,), if known
    mean_over: str = "the checkpoint's training set"  # what else that is the mean over, as for the published weights
    optimizer: dict[str, Any] | None = None
    position: dict[str, int] | None = None  # step, and clips consumed of the training stream
    best: float | None = None  # the lowest validation loss up to here
    held_out: dict[str, Any] | None = None  # as in validation.json: step, clips and {measure: mean}, without the videos
    config: dict[str, Any] = field(default_factory=dict)  # what it was made with, for the record
    format: int = FORMAT

    @property
    def heads(self) -> dict[str, int]:
        return {head: len(card.classes) for head, card in self.teachers.items()}

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The names of each head's classes."""
        return {head: card.classes for head, card in self.teachers.items()}

    @property
    def network_sha256(self) -> str:
        """Of the weights alone, whatever file they are in."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Under a temporary name, flushed to disk, renamed: a checkpoint that exists is whole.

    Raises UserError where it cannot be written, as on a full disk.
    """
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    fields |= {"spec": asdict(checkpoint.spec), "clip": asdict(checkpoint.clip)}
    fields["teachers"] = {head: asdict(card) for head, card in checkpoint.teachers.items()}
    try:
        if path.suffix == SUFFIX:
            write_whole(path, pack(fields))
        else:
            stream = io.BytesIO()
            torch.save(fields, stream)
            write_whole(path, stream.getvalue())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. What was there before is whole; make room and run the same "
            "command again"
        ) from None


def load(path: Path, device: str = "cpu") -> Checkpoint:
    """Raises UserError where the file is missing, is no checkpoint, or is one of another format."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: `make published` fetches one, `make train` trains one")
    try:
        fields = unpack(path, device) if path.suffix == SUFFIX else _unpickled(path, device)
        if fields["format"] != FORMAT:
            raise ContractError(
                f"{path} has format {fields['format']}, this program reads {FORMAT}: use the version that wrote it"
            )
        fields["spec"] = typed(StudentSpec, fields["spec"], "spec")
        fields["clip"] = typed(ClipSpec, fields["clip"], "clip")
        fields["teachers"] = {head: TeacherCard.from_fields(card) for head, card in fields["teachers"].items()}
        return Checkpoint(**fields)
    except MALFORMED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint of this program: {reason}") from None


def _unpickled(path: Path, device: str) -> dict[str, Any]:
    """What torch.save wrote. Raises UserError for everything else, in our words: torch's own advise to execute it."""
    if not path.stat().st_size:
        raise UserError(f"{path} is empty (0 bytes): fetch it again, or train it again")
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle that is refused
            fields = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which torch's search in a cut file ends in
            raise
        raise UserError(
            f"{path} is not a checkpoint of this program: it is damaged, no PyTorch file, or one that holds more than "
            "plain values and tensors, such as a whole model. Such a file can execute code, so it is not opened"
        ) from None
    if not isinstance(fields, dict) or not fields.keys() >= {"format", "spec", "network"}:
        raise UserError(
            f"{path} is not a checkpoint of this program: it is a PyTorch file, but does not say which network it is "
            "of. Give best.pt or last.pt of `make train`, or the file of `make published`"
        )
    return fields


def build(spec: StudentSpec, heads: dict[str, int], *, sample_rate: int, seed: int = 0) -> Student | Autoencoder:
    """The network of a spec, initialised. An autoencoder has no heads. Raises UserError for an unknown kind."""
    if spec.kind == "student":
        return Student(spec, heads, sample_rate=sample_rate, seed=seed)
    if spec.kind == "autoencoder":
        return Autoencoder(spec, sample_rate=sample_rate, seed=seed)
    raise UserError(f"student.kind={spec.kind} is unknown: choose student or autoencoder")


def load_network(path: Path, device: str = "cpu") -> tuple[Trunk, Checkpoint]:
    """The network of a checkpoint of any kind, in eval mode on `device`: it has features and lengths.

    Raises UserError as `load` does, and where the file's tensors are not those of the network that it says it has.
    """
    checkpoint = load(path, device)
    there = sum(tensor.numel() for tensor in checkpoint.network.values())
    if _least_weights(checkpoint) > there:  # before memory is taken for a network that no file has
        raise UserError(
            f"{path} is damaged: it describes a larger network than its {there:,} weights make. Fetch it again"
        )
    network = build(checkpoint.spec, checkpoint.heads, sample_rate=checkpoint.clip.sample_rate)
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{path} is damaged: its weights are not those of the network that it describes: {reason}"
        ) from None
    return network.to(device).eval(), checkpoint


def _least_weights(checkpoint: Checkpoint) -> int:
    """Numbers in the convolutions, at least: a residual layer has more."""
    spec, channels, weights = checkpoint.spec, 1, 0
    for layer in spec.through(DEEPEST) if spec.kind == "autoencoder" else spec.layers:
        weights += channels * (layer.filters or 0) * layer.kernel
        channels = layer.filters or channels
    return weights + channels * sum(checkpoint.heads.values()) * spec.output.kernel


def load_student(path: Path, device: str = "cpu") -> tuple[Student, Checkpoint]:
    """As `load_network`, where only a student with heads will do. Raises UserError for another kind."""
    network, checkpoint = load_network(path, device)
    if not isinstance(network, Student):
        raise UserError(f"{path} holds an {checkpoint.spec.kind}, which has no heads: give a student's checkpoint")
    return network, checkpoint
