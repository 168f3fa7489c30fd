"""Caffe files written by protobuf itself, against plain float64 arithmetic; and files that lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from torch import nn

from pipeline.teachers.caffemodel import CaffeLayer, read_caffemodel, state_dict_from_caffe
from shards.errors import UserError

# From caffe.proto: message -> (name, number, type, repeated, packed) of the fields that a model file has.
KINDS = {"string": 9, "int64": 3, "int32": 5, "float": 2, "bool": 8}
PROTO = {
    "BlobShape": [("dim", 1, "int64", True, True)],
    "BlobProto": [
        ("num", 1, "int32", False, False), ("channels", 2, "int32", False, False),
        ("height", 3, "int32", False, False), ("width", 4, "int32", False, False),
        ("data", 5, "float", True, True), ("diff", 6, "float", True, True), ("shape", 7, "BlobShape", False, False),
    ],
    "LayerParameter": [
        ("name", 1, "string", False, False), ("type", 2, "string", False, False), ("bottom", 3, "string", True, False),
        ("loss_weight", 5, "float", True, False), ("blobs", 7, "BlobProto", True, False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, "string", True, False), ("name", 4, "string", False, False), ("type", 5, "int32", False, False),
        ("blobs", 6, "BlobProto", True, False),
    ],
    "NetParameter": [
        ("name", 1, "string", False, False), ("layers", 2, "V1LayerParameter", True, False),
        ("input_dim", 4, "int32", True, False), ("force_backward", 5, "bool", False, False),
        ("layer", 100, "LayerParameter", True, False),
    ],
}  # fmt: skip


def net_parameter() -> Any:
    """An empty NetParameter of the real protobuf library, whose types are declared above."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_test.proto", package="caffe_test", syntax="proto2")
    for name, fields in PROTO.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated, packed in fields:
            added = message.field.add(name=field, number=number, label=3 if repeated else 1, type=KINDS.get(kind, 11))
            if kind not in KINDS:
                added.type_name = f".caffe_test.{kind}"
            added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_test.NetParameter"))()


CHAIN = {"conv1_1": (4, 3, 3, 3), "conv1_2": (4, 4, 3, 3), "fc6": (6, 36), "fc8a": (5, 6)}  # of a 6x6 picture


def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(3)
    return {
        name: (random.standard_normal(shape).astype(np.float32), random.standard_normal(shape[0]).astype(np.float32))
        for name, shape in CHAIN.items()
    }


def small_vgg() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5),
    ).eval()  # fmt: skip


def caffe_bytes(*, legacy: bool = False) -> bytes:
    """A model as `Net::ToProto` writes it (V2), or as of 2014: V1 layers, arrays padded to four dimensions."""
    net = net_parameter()
    net.name, net.force_backward = "VGG-Places365", True
    net.input_dim.extend([10, 3, 6, 6])
    for name, blobs in arrays().items():
        layer = (net.layers if legacy else net.layer).add(name=name, bottom=["data"])
        if not legacy:
            layer.type, layer.loss_weight[:] = "Convolution", [0.5]
        for array in blobs:
            blob = layer.blobs.add(data=array.ravel().tolist(), diff=[1.0, 2.0])
            if legacy:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
            else:
                blob.shape.dim.extend(array.shape)
        (net.layers if legacy else net.layer).add(name=f"relu_{name}")
    return net.SerializeToString()


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "vgg16_places365.caffemodel"
    path.write_bytes(data)
    return path


def converted(path: Path) -> dict[str, torch.Tensor]:
    return state_dict_from_caffe(read_caffemodel(path), small_vgg(), path)


def forward(picture: np.ndarray) -> np.ndarray:
    """Caffe's layers by their definition, in float64: picture (3, 6, 6) to 5 outputs."""
    blobs = {name: tuple(np.float64(array) for array in pair) for name, pair in arrays().items()}
    x = np.float64(picture)
    for name in ("conv1_1", "conv1_2"):
        weight, bias = blobs[name]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.maximum(np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None], 0)
    x = x.reshape(4, 3, 2, 3, 2).max(axis=(2, 4))
    x = x.reshape(-1)  # InnerProduct flattens (channels, height, width)
    x = np.maximum(blobs["fc6"][0] @ x + blobs["fc6"][1], 0)
    return blobs["fc8a"][0] @ x + blobs["fc8a"][1]


@pytest.mark.parametrize("legacy", [False, True])
def test_the_converted_network_computes_what_caffe_computes(tmp_path: Path, legacy: bool) -> None:
    network = small_vgg()
    network.load_state_dict(converted(saved(tmp_path, caffe_bytes(legacy=legacy))))
    pictures = np.random.default_rng(4).standard_normal((3, 3, 6, 6)).astype(np.float32)
    with torch.no_grad():
        found = network(torch.from_numpy(pictures)).numpy()
    assert np.allclose(found, [forward(picture) for picture in pictures], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
def test_names_and_arrays_are_read_in_order(tmp_path: Path, legacy: bool) -> None:
    layers = read_caffemodel(saved(tmp_path, caffe_bytes(legacy=legacy)))
    assert [layer.name for layer in layers] == list(CHAIN)
    for layer, blobs in zip(layers, arrays().values(), strict=True):
        assert [blob.ravel().tolist() for blob in layer.blobs] == [blob.ravel().tolist() for blob in blobs]


def test_the_layers_of_the_places_release_are_those_of_torchvision() -> None:
    # deploy_vgg16_places365.prototxt; strides of 0 stand for 138 million weights.
    widths = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]
    shapes, channels = {}, 3
    for block, filters in enumerate(widths, 1):
        for place, out in enumerate(filters, 1):
            shapes[f"conv{block}_{place}"] = (out, channels, 3, 3)
            channels = out
    shapes |= {"fc6": (4096, 512 * 7 * 7), "fc7": (4096, 4096), "fc8a": (365, 4096)}
    layers = [
        CaffeLayer(name, [np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), dims, (0,) * len(dims))
                          for dims in (shape, shape[:1])])
        for name, shape in shapes.items()
    ]  # fmt: skip
    with torch.device("meta"):
        network = torchvision.models.vgg16(num_classes=365)
    state = state_dict_from_caffe(layers, network, Path("vgg16_places365.caffemodel"))
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, caffe_bytes())
    with pytest.raises(UserError, match="without batch norm only"):
        state_dict_from_caffe(read_caffemodel(path), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), path)
    with pytest.raises(UserError, match=r"'fc8a \(2\)'\]; the network has 1 of 2 arrays"):
        state_dict_from_caffe(read_caffemodel(path), nn.Sequential(nn.Linear(36, 6)), path)


def test_no_cut_passes_for_a_whole_file(tmp_path: Path) -> None:
    data = caffe_bytes()
    end_of_weights = data.index(b"relu_fc8a") - 4  # what follows is a layer without weights
    for length in range(0, end_of_weights, 7):
        with pytest.raises(UserError):
            converted(saved(tmp_path, data[:length]))


def number(value: int) -> bytes:
    """A protobuf varint."""
    return bytes([value & 0x7F | 0x80]) + number(value >> 7) if value > 0x7F else bytes([value])


def chunk(field: int, content: bytes, length: int | None = None) -> bytes:
    return number(field << 3 | 2) + number(len(content) if length is None else length) + content


LIES = {
    "a field longer than the file": chunk(100, b"abc", length=2**40),
    "a field longer than its message": chunk(100, chunk(7, b"abc", length=4)),
    "a number without an end": b"\xff" * 12,
    "a group": b"\x0b" + b"\x0c",
    "more values than the shape has": chunk(100, chunk(7, chunk(7, chunk(1, number(2))) + chunk(5, b"\0" * 12))),
    "a shape beyond memory": chunk(100, chunk(7, chunk(7, chunk(1, number(2**62) * 3)) + chunk(5, b"\0" * 12))),
    "a negative dimension": chunk(100, chunk(7, chunk(7, chunk(1, number(2**64 - 1))) + chunk(5, b"\0" * 4))),
    "half a number": chunk(100, chunk(7, chunk(7, chunk(1, number(1))) + chunk(5, b"\0\0") + chunk(5, b"\0\0"))),
    "no data": chunk(100, chunk(7, chunk(7, chunk(1, number(3))))),
    "a shape in place of a layer": chunk(100, chunk(7, b"\x3a\x05abc")),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(tmp_path: Path, lie: str) -> None:
    with pytest.raises(UserError, match=r"is not a whole \.caffemodel"):
        read_caffemodel(saved(tmp_path, LIES[lie]))


def test_packed_values_may_come_in_pieces(tmp_path: Path) -> None:
    pieces = chunk(5, np.float32([1, 2]).tobytes()) + chunk(5, np.float32([3]).tobytes())
    path = saved(tmp_path, chunk(100, chunk(1, b"fc") + chunk(7, chunk(7, number(1 << 3) + number(3)) + pieces)))
    assert [layer.blobs[0].tolist() for layer in read_caffemodel(path)] == [[1, 2, 3]]


def test_changed_bytes_end_in_one_kind_of_error(tmp_path: Path) -> None:
    data, random = caffe_bytes(), np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        for place in random.integers(0, 200, 3):  # where the structure is dense
            changed[place] = random.integers(256)
        try:
            converted(saved(tmp_path, bytes(changed)))
        except UserError:
            refused += 1
    assert refused > 50
