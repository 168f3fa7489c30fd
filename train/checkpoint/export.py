"""`make export checkpoint=... format=onnx`: a checkpoint as a file for elsewhere, checked, its model card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from shards.cli.command import command
from shards.errors import ContractError, UserError
from shards.files import replacing, sha256_of, writable_file
from train.checkpoint import hub, onnx_file
from train.checkpoint.checkpoint import Checkpoint, load, load_network, save
from train.checkpoint.modelcard import write_card
from train.checkpoint.safetensors_file import SUFFIX
from train.model.student import Trunk

SUFFIXES = {"onnx": ".onnx", "safetensors": SUFFIX, "hub": ""}  # a folder has none


@dataclass
class ExportSettings:
    """conf/export.yaml."""

    # a checkpoint of `make train`, `make finetune` or `make published`, or OWNER/NAME[@REVISION] on Hugging Face
    checkpoint: Path
    format: Literal["onnx", "safetensors", "hub"] = "onnx"  # onnx, safetensors, or hub: a folder for Hugging Face
    out: Path | None = None  # the file; null: beside the checkpoint, under its name (of hub: without its ending)
    # of an ONNX file, as [pool5,objects]; null: the deepest pool, the deepest hidden layer and all heads
    outputs: list[str] | None = None

    @property
    def path(self) -> Path:
        return self.out or self.checkpoint.with_suffix(SUFFIXES[self.format])


def run(settings: ExportSettings) -> None:
    """Write the file and its card; a file that differs from the checkpoint is not kept. Raises UserError."""
    path, source = settings.path, hub.checkpoint_file(settings.checkpoint)
    if source != settings.checkpoint and not settings.checkpoint.exists() and settings.out is None:
        raise UserError(f"checkpoint={settings.checkpoint} is on Hugging Face: say where its file goes here, out=...")
    if settings.format != "hub" and path.suffix != SUFFIXES[settings.format]:
        raise UserError(f"out={path}: a file of format={settings.format} is called ...{SUFFIXES[settings.format]}")
    card = path.with_name(f"{path.name}.md")
    for written in (path / hub.WEIGHTS,) if settings.format == "hub" else (path, card):
        writable_file(written, [source])
    network, checkpoint = load_network(source)
    origin = sha256_of(source)
    if settings.format == "hub":
        hub.write_folder(path, checkpoint, [("of", f"a checkpoint with sha256 {origin}")])
        print(f"{path}: {', '.join((hub.WEIGHTS, hub.CONFIG, hub.CARD))}; `hf upload OWNER/NAME {path}` publishes it")
        return
    if settings.format == "onnx":
        rows = export_onnx(path, network, checkpoint, settings.outputs, origin)
    else:
        rows = export_tensors(path, checkpoint)
    hashes = [("this file", f"sha256 {sha256_of(path)}"), ("of", f"a checkpoint with sha256 {origin}")]
    write_card(card, checkpoint, path.name, [*rows, *hashes])
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; its model card is {card}")


def export_onnx(
    path: Path, network: Trunk, checkpoint: Checkpoint, wanted: list[str] | None, origin: str
) -> list[tuple[str, str]]:
    """Rows for the card. Raises ContractError, and leaves no file, where onnxruntime and the network disagree."""
    outputs = onnx_file.choose_outputs(network, wanted)
    with replacing(path) as partial:
        onnx_file.write(partial, network, outputs, onnx_file.facts(checkpoint, network, outputs, origin))
        found = onnx_file.largest_difference(partial, network, outputs, checkpoint.clip.samples)
        differences = ", ".join(f"{name} {difference:.1e}" for name, difference in found.items())
        if max(found.values()) > onnx_file.TOLERANCE:
            raise ContractError(
                f"{path} is not kept: through onnxruntime it differs from the network by more than "
                f"{onnx_file.TOLERANCE:g} of the largest value ({differences}). Another version of onnx or "
                "onnxruntime may do better; format=safetensors needs neither"
            )
    print(f"through onnxruntime at three lengths, largest difference as a share of the largest value: {differences}")
    checked = f"with onnxruntime at three lengths; at most {max(found.values()):.1e} of the largest value apart"
    return [("outputs", ", ".join(outputs)), ("checked", checked)]


def export_tensors(path: Path, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The same for safetensors: every tensor must come back as it was."""
    save(path, checkpoint)
    again = load(path).network
    if again.keys() != checkpoint.network.keys() or not all(
        torch.equal(tensor, checkpoint.network[name]) for name, tensor in again.items()
    ):
        path.unlink()
        raise ContractError(f"{path} is not kept: its tensors are not those of the checkpoint. Try another disk")
    print(f"{len(again)} tensors, read back unchanged")
    return []


if __name__ == "__main__":
    command(ExportSettings, "export", run)
