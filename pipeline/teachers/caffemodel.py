"""Reads the layers of a `.caffemodel`, which is the only form in which VGG16 for Places exists.

The file is one protobuf message, walked here field by field and bounds-checked; nothing is executed and protobuf is
not needed. Field numbers: caffe.proto of BVLC/caffe (NetParameter, LayerParameter, V1LayerParameter, BlobProto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shards.errors import ContractError, UserError

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types; the groups, 3 and 4, are not in caffe.proto

# NetParameter: the field of a layer -> that layer message's fields (name, blobs).
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}  # `layer`, and `layers` of the older V1 format
BLOB_SHAPE, BLOB_DATA, SHAPE_DIM = 7, 5, 1
LEGACY_DIMS = (1, 2, 3, 4)  # num, channels, height, width of files that have no shape


@dataclass(frozen=True)
class CaffeLayer:
    """A layer that has weights: its name, and its arrays in Caffe's order (weight, bias)."""

    name: str
    blobs: list[NDArray[np.float32]]


class _Damaged(ValueError):
    pass


def read_caffemodel(path: Path) -> list[CaffeLayer]:
    """The layers with weights in the order of the network. Raises UserError for what is no whole caffemodel."""
    try:
        return list(_layers(np.memmap(path, np.uint8, mode="r").data))
    except ValueError as error:  # _Damaged, or an empty file, which cannot be mapped
        raise UserError(f"{path} is not a whole .caffemodel: {error}") from None


def state_dict_from_caffe(layers: list[CaffeLayer], network: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights under the names of `network`, a plain chain of convolutions and linear layers as torchvision's VGG.

    Layers are paired in order. Caffe flattens (channels, height, width) before fc6 as torchvision does, and stores
    (out, in, height, width) kernels that are correlated, not convolved, as torch's are: no array is permuted.
    """
    chain = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    others = set(network.state_dict()) - {f"{name}.{kind}" for name, _ in chain for kind in ("weight", "bias")}
    if others:
        raise UserError(
            f"{path}: a .caffemodel is read for VGG networks without batch norm only, and this one is another"
        )
    if len(layers) != len(chain) or any(len(layer.blobs) != 2 for layer in layers):
        found = [f"{layer.name} ({len(layer.blobs)})" for layer in layers[:20]]
        raise ContractError(f"{path} has the layers (arrays) {found}; the network has {len(chain)} of 2 arrays each")
    state: dict[str, Tensor] = {}
    for layer, (name, module) in zip(layers, chain, strict=True):
        for kind, blob in zip(("weight", "bias"), layer.blobs, strict=True):
            dims = module.get_parameter(kind).dim()
            # Older files pad every array to four dimensions with leading ones: fc6 is (1, 1, 4096, 25088).
            padded = blob.ndim > dims and set(blob.shape[: blob.ndim - dims]) == {1}
            state[f"{name}.{kind}"] = torch.from_numpy(blob.reshape(blob.shape[-dims:]) if padded else blob)
    return state


def _layers(data: memoryview) -> Iterator[CaffeLayer]:
    for field, value in _fields(data):
        if field in LAYER_FIELDS and isinstance(value, memoryview):
            name_field, blobs_field = LAYER_FIELDS[field]
            name, blobs = "", []
            for inner, content in _fields(value):
                if inner == name_field and isinstance(content, memoryview):
                    name = bytes(content).decode("utf-8", errors="replace")
                elif inner == blobs_field and isinstance(content, memoryview):
                    blobs.append(_blob(content, name))
            if blobs:
                yield CaffeLayer(name, blobs)


def _blob(data: memoryview, layer: str) -> NDArray[np.float32]:
    """A copy, so that it outlives the mapped file."""
    shape: list[int] | None = None
    legacy = dict.fromkeys(LEGACY_DIMS, 1)
    pieces: list[memoryview] = []  # a packed field may come in several
    for field, value in _fields(data):
        if field == BLOB_SHAPE and isinstance(value, memoryview):
            shape = _dims(value)
        elif field in legacy and isinstance(value, int):
            legacy[field] = value
        elif field == BLOB_DATA and isinstance(value, memoryview):
            pieces.append(value)
    dims = list(legacy.values()) if shape is None else shape
    stored = sum(map(len, pieces))
    if stored != 4 * math.prod(dims):
        raise _Damaged(f"layer {layer!r} has an array of shape {dims} and {stored} bytes of float32 for it")
    array = np.empty(stored // 4, np.float32)
    filled = 0
    for piece in pieces:
        if len(piece) % 4:
            raise _Damaged(f"layer {layer!r} has a piece of {len(piece)} bytes where float32 are expected")
        array[filled : filled + len(piece) // 4] = np.frombuffer(piece, "<f4")
        filled += len(piece) // 4
    return array.reshape(dims)


def _dims(data: memoryview) -> list[int]:
    dims: list[int] = []
    for field, value in _fields(data):
        if field == SHAPE_DIM and isinstance(value, int):
            dims.append(value)
        elif field == SHAPE_DIM and isinstance(value, memoryview):
            position = 0
            while position < len(value):
                dim, position = _varint(value, position)
                dims.append(dim)
    return dims


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of one message: an int for a varint, else the bytes, not copied."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire_type = key & 7
        if wire_type == VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire_type == BYTES:
            length, position = _varint(data, position)
        elif wire_type in (FOUR_BYTES, EIGHT_BYTES):
            length = 4 if wire_type == FOUR_BYTES else 8
        else:
            raise _Damaged(f"wire type {wire_type} of field {key >> 3}")
        if length > len(data) - position:
            raise _Damaged(f"field {key >> 3} claims {length} bytes where {len(data) - position} are left")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The number at `position`, and the position behind it. 64 bits at most, 7 a byte, the low ones first."""
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _Damaged("a number that has no end")
