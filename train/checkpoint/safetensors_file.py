"""A checkpoint as a .safetensors file: tensors by name, everything else as JSON in its header. Both ways; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

SUFFIX = ".safetensors"
KEY = "soundnet"  # of the header's entry
TENSORS = ("network", "training_mean")  # fields of a checkpoint that map names to tensors


def pack(fields: Mapping[str, Any]) -> bytes:
    """A file of a checkpoint's plain fields, without the optimizer, which only a run has a use for."""
    kept = {name: value for name, value in fields.items() if name not in (*TENSORS, "optimizer")}
    tensors = {
        f"{group}/{name}": tensor.contiguous() for group in TENSORS for name, tensor in (fields[group] or {}).items()
    }
    return save(tensors, {KEY: json.dumps(kept)})


def read_header(path: Path) -> dict[str, Any]:
    """The fields that are no tensors. Raises ValueError for a file that is none of ours."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = (stored.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if header is None:
        raise ValueError(f"its header has no entry {KEY}: only tensors, and nothing of the network they are of")
    fields = json.loads(header)
    if not isinstance(fields, dict):
        raise ValueError(f"the entry {KEY} of its header is no list of fields")
    return fields


def unpack(path: Path, device: str) -> dict[str, Any]:
    """The fields back. Raises ValueError for a file that is none of ours."""
    header = read_header(path)
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in TENSORS}
    with safe_open(path, framework="pt", device=device) as stored:
        for name in stored.keys():  # noqa: SIM118 - safe_open gives no iterator
            group, _, rest = name.partition("/")
            groups[group][rest] = stored.get_tensor(name)
    return {**header, **groups, "training_mean": groups["training_mean"] or None}
