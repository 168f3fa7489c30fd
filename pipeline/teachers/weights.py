"""Weights files of the teachers: where each is or belongs, its hash, and how to read it without running it."""

from __future__ import annotations

import importlib.util
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from pipeline.teachers.libraries.open_clip_models import download_release, is_open_clip, release_file
from pipeline.teachers.libraries.timm_models import is_timm, release_url
from pipeline.teachers.spec import IMAGENET, TeacherSpec
from shards.cli.commands import install
from shards.errors import UserError

PACKAGE = "package:"
DEMO_EXTRA = install("demo")
PLACES_WEIGHTS = "http://places2.csail.mit.edu/models_places365/"
PLACES_LISTS = "https://raw.githubusercontent.com/CSAILVision/places365/master/"
# Keys of DenseNet checkpoints from before PyTorch 0.4 (`norm.1.weight`); torchvision's own loader renames them so.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
# What torch.load and load_file raise inside a file that is damaged, or no checkpoint: each error of parsing there is.
UNREADABLE = (
    pickle.UnpicklingError, struct.error, SafetensorError, RuntimeError, OSError, EOFError, BufferError, MemoryError,
    ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class NeededFile:
    """A file that a head cannot do without. `path` is None where its package has not brought it yet."""

    path: Path | None
    remedy: str  # how to get it
    download: str = ""  # URL, or network of open_clip, whose file is downloaded without being asked for

    @property
    def present(self) -> bool:
        return self.path is not None and self.path.is_file()


def release_of(spec: TeacherSpec) -> WeightsEnum | None:
    """The torchvision release that `spec.weights` names, None where it names a package, a file or a library."""
    if "/" in spec.architecture or not re.fullmatch(r"[A-Z0-9_]+", spec.weights):
        return None
    try:
        releases: Mapping[str, WeightsEnum] = get_model_weights(spec.architecture).__members__
    except ValueError:
        releases = {}
    if spec.weights not in releases:
        raise UserError(
            f"torchvision has no weights {spec.weights!r} for {spec.architecture}, only {sorted(releases)}: name one "
            "of these, or the path of a file"
        )
    return releases[spec.weights]


def weights_file(spec: TeacherSpec) -> NeededFile:
    """Where the weights are, or where they have to be put."""
    if spec.weights.startswith(PACKAGE):
        return _packaged(spec.weights.removeprefix(PACKAGE))
    if spec.weights == "timm" and is_timm(spec.architecture):
        url, name = release_url(spec.architecture)
        return NeededFile(_downloads() / name, f"from {url}", download=url)
    if spec.weights == "open_clip" and is_open_clip(spec.architecture):
        found, page = release_file(spec.architecture)
        return NeededFile(found, f"the file of {page}", download=spec.architecture)
    release = release_of(spec)
    if release is not None:
        path = _downloads() / release.url.rsplit("/", 1)[-1]
        return NeededFile(path, f"from {release.url}", download=release.url)
    path = Path(spec.weights).expanduser()
    return NeededFile(path, f"from {PLACES_WEIGHTS}{path.name}" if "places365" in path.name else "(your own file)")


def existing_weights(spec: TeacherSpec) -> Path:
    """The file of the weights. Raises UserError with what to do where it is not there."""
    file = weights_file(spec)
    if file.path is None or not file.present:
        raise UserError(f"the weights of {spec.architecture} are not there: {file.path or ''} {file.remedy}")
    return file.path


def _downloads() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def classes_file(spec: TeacherSpec) -> NeededFile | None:
    """The class list that the teacher names, None where its names come with torchvision."""
    if spec.classes in (None, IMAGENET):
        return None
    path = Path(str(spec.classes)).expanduser()
    return NeededFile(path, f"from {PLACES_LISTS}{path.name}" if "places365" in path.name else "(your own list)")


def require_files(heads: Mapping[str, TeacherSpec]) -> None:
    """Download what can be, then raise one UserError that lists all that is missing and where it goes."""
    needed = _needed(heads)
    reasons: dict[str, str] = {}
    if all(file.present or file.download for _, file in needed):
        # Only once nothing else is missing, so that nobody waits for a download and is then told about another file.
        reasons = {
            file.download: _download(file) for file in dict.fromkeys(file for _, file in needed if not file.present)
        }
    missing = [(head, file) for head, file in _needed(heads) if not file.present]
    if missing:
        lines = [_line(head, file, reasons.get(file.download, "")) for head, file in missing]
        if len(heads) > 1:
            droppable = ", ".join(f"`teachers.heads.{head}=null`" for head in dict(missing))
            lines.append(f"or do without a head: {droppable}")
        raise UserError("\n".join(["files of the teachers are missing. Put each where this says:", *lines]))


def _needed(heads: Mapping[str, TeacherSpec]) -> list[tuple[str, NeededFile]]:
    return [(head, file) for head, spec in heads.items() for file in (weights_file(spec), classes_file(spec)) if file]


def promised_hash(path: Path) -> str:
    """The first digits of the sha256, which torchvision puts into its files' names; empty where the name has none."""
    found = re.search(r"-([0-9a-f]{8,})$", path.stem)
    return found[1] if found else ""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint (zip or 2017's layout) or .safetensors by key, the keys as torchvision's.

    No code in the file is executed. `module.` (from DataParallel) is removed wherever it stands in a key. Raises
    UserError for a file that is damaged, that is not a checkpoint, or that asks for code to be run.
    """
    try:
        payload = load_file(path) if path.suffix == ".safetensors" else _load_checkpoint(path)
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as a file of weights: {_fault(error)}") from None
    for name in ("state_dict", "model"):
        if isinstance(payload, Mapping) and isinstance(payload.get(name), Mapping):
            payload = payload[name]
    if not isinstance(payload, Mapping) or not payload or not all(map(_is_entry, payload.items())):
        raise UserError(f"{path} holds no state dict: a mapping from names to tensors, or one under `state_dict`")
    state = {_current_key(key): tensor for key, tensor in payload.items()}
    if len(state) != len(payload):
        raise UserError(f"{path} holds keys that differ only in `module.`: give the network's own state dict")
    return state


def _packaged(module: str) -> NeededFile:
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        return NeededFile(None, f"python package {module!r}: `{DEMO_EXTRA}`")
    files = sorted(file for folder in found.submodule_search_locations for file in Path(folder).rglob("*.pth"))
    if len(files) != 1:
        raise UserError(f"package {module} must hold one .pth file and holds {[file.name for file in files]}")
    return NeededFile(files[0], f"`{DEMO_EXTRA}`")


def _download(file: NeededFile) -> str:
    """Fetch the file under its final name once its hash is right; the reason, where that fails."""
    try:
        if file.path is None:
            download_release(file.download)
            return ""
        file.path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.download, str(file.path), promised_hash(file.path) or None)
    except (OSError, HTTPException, RuntimeError) as error:
        return _first_line(error)
    return ""


def _load_checkpoint(path: Path) -> object:
    with warnings.catch_warnings():
        # torch warns that an encoding is of no use here, and uses it: the Places releases of 2017 were pickled by
        # Python 2.7, whose strings are bytes, and latin1 has a letter for each byte.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")


def _line(head: str, file: NeededFile, reason: str) -> str:
    note = f" (the download failed: {reason})" if reason else " (it is downloaded then)" if file.download else ""
    if reason and file.path is None:  # it has its place in a cache that nobody fills by hand
        note += f"; or fetch it elsewhere, and say teachers.heads.{head}.weights=<its path>"
    return f"  {head}: {f'{file.path} ' if file.path else ''}{file.remedy}{note}"


def _is_entry(entry: tuple[object, object]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor)


def _current_key(key: str) -> str:
    plain = ".".join(part for part in key.split(".") if part != "module")
    return OLD_DENSENET.sub(r"\1\2", plain)


def _fault(error: BaseException) -> str:
    """What is wrong with the file, without torch's advice to execute it."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return f"it asks for the code of {code[1]}, and only tensors are read. Save the network's state_dict() alone"
    return (
        _first_line(error) if str(error) and not isinstance(error, pickle.UnpicklingError) else "it is damaged or none"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
