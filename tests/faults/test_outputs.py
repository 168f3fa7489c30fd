"""A place for results that cannot be is one line that names it, before the work whose results it would hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.inference.embed import run as embed
from evaluate.inference.listen import run as listen
from evaluate.inference.tag import run as tag
from evaluate.probe import run as probe
from evaluate.probe.evidence import run as evidence
from evaluate.reproduce import run as reproduce
from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.settings import ReproduceSettings
from evaluate.supervised import finetune
from evaluate.supervised import run as supervised
from shards.cli.command import compose
from shards.errors import UserError
from tests.evaluate.conftest import ESC10, RATE, checkpoint, esc_root, esc_spec, tiny
from tests.faults.commands import finish, labelling, obey_permissions, one_line, start, training
from tests.shards.conftest import write_shards
from train.checkpoint import export, published
from train.checkpoint.checkpoint import load, save
from train.model.layers import StudentSpec

__all__ = ["checkpoint", "esc_root", "esc_spec", "tiny"]


@pytest.fixture
def unworked(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], None]:
    """Makes the function that does a module's work one that must not be called."""

    def worked(*_: object, **__: object) -> None:
        pytest.fail("the work was begun")

    return lambda module, name: monkeypatch.setattr(module, name, worked)


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A file where a folder is needed."""
    (tmp_path / "taken").write_bytes(b"")
    return tmp_path / "taken"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 2 * RATE), RATE)
    return tmp_path / "a.wav"


def refused(run: Callable[[Any], None], settings: object, name: str) -> None:
    with pytest.raises((UserError, OSError), match=name):
        run(settings)


@pytest.mark.parametrize("key", ["out", "timeline", "save_base"])
def test_of_tag(
    checkpoint: Path, sound: Path, taken: Path, tmp_path: Path, unworked: Callable[[object, str], None], key: str
) -> None:
    unworked(tag, "posteriors_of_each")
    heard = sound.read_bytes()
    for path, word in ((tmp_path, tmp_path.name), (taken / "a", "taken"), (sound, "is to be read")):
        refused(tag.run, tag.TagSettings([sound], checkpoint, **{key: path}), word)  # type: ignore[arg-type]
    refused(tag.run, tag.TagSettings([sound], checkpoint, **{key: checkpoint}), "is to be read")  # type: ignore[arg-type]
    assert sound.read_bytes() == heard


def test_of_tag_given_twice(
    checkpoint: Path, sound: Path, tmp_path: Path, unworked: Callable[[object, str], None]
) -> None:
    unworked(tag, "posteriors_of_each")
    same = tmp_path / "same.json"
    refused(tag.run, tag.TagSettings([sound], checkpoint, out=same, save_base=same), "given twice")


def test_of_embed_and_listen(
    checkpoint: Path, sound: Path, taken: Path, tmp_path: Path, unworked: Callable[[object, str], None]
) -> None:
    unworked(embed, "steps_of")
    (tmp_path / "folder.npz").mkdir()
    places = [(tmp_path / "folder.npz", "folder.npz"), (taken, "taken"), (taken / "a.npz", "taken")]
    for path, word in places:
        refused(embed.run, embed.EmbedSettings([sound], checkpoint, path, layer="conv2"), word)
    refused(listen.run, listen.ListenSettings(checkpoint, [sound], taken, port=0), "taken")


def test_of_evaluate(
    checkpoint: Path,
    esc_root: Path,
    esc_spec: BenchmarkSpec,
    tiny: StudentSpec,
    taken: Path,
    tmp_path: Path,
    unworked: Callable[[object, str], None],
) -> None:
    unworked(probe, "extract")
    settings = probe.EvaluateSettings(esc_spec, esc_root, tiny, checkpoint, "conv2", out=tmp_path, cache=tmp_path)
    for place in ({"out": taken}, {"cache": taken}):
        refused(probe.run, replace(settings, **place), "taken")
    unworked(supervised, "train_fold")
    training = supervised.SupervisedSettings(esc_spec, esc_root, tiny, seconds=1, device="cpu", out=taken)
    refused(supervised.run, training, "taken")
    unworked(finetune, "train_fold")
    tuning = finetune.FinetuneSettings(esc_spec, esc_root, checkpoint, seconds=1, device="cpu", out=taken)
    refused(finetune.run, tuning, "taken")


def test_of_evidence_and_reproduce(
    checkpoint: Path, taken: Path, tmp_path: Path, unworked: Callable[[object, str], None]
) -> None:
    shards = write_shards(tmp_path / "shards", {f"train-{number:06}": 2 for number in range(30)})
    foreign = replace(load(checkpoint), clip=replace(load(checkpoint).clip, sample_rate=1000), position=None)
    save(tmp_path / "foreign.pt", foreign)
    unworked(evidence, "random_networks")
    refused(evidence.run, evidence.EvidenceSettings(str(shards), tmp_path / "foreign.pt", "conv2", out=taken), "taken")
    unworked(reproduce, "fill")
    unworked(reproduce, "draw")
    settings = compose(ReproduceSettings, "reproduce", [])
    for place in ({"out": taken, "cache": tmp_path}, {"out": tmp_path, "cache": taken}):
        refused(partial(reproduce.run, experiments=Experiments.compose()), replace(settings, **place), "taken")


def test_of_export_and_published(
    checkpoint: Path, taken: Path, tmp_path: Path, unworked: Callable[[object, str], None]
) -> None:
    unworked(export, "load_network")
    (tmp_path / "a.onnx").mkdir()
    (tmp_path / "b.onnx.md").mkdir()
    places = [(tmp_path / "a.onnx", r"a\.onnx"), (tmp_path / "b.onnx", r"b\.onnx\.md"), (taken / "c.onnx", "taken")]
    for path, word in places:
        refused(export.run, export.ExportSettings(checkpoint, out=path), word)
    refused(export.run, export.ExportSettings(checkpoint, "hub", taken), "taken")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "model.safetensors").symlink_to(checkpoint)
    whole = export.ExportSettings(tmp_path / "hub" / "model.safetensors", "hub", tmp_path / "hub")
    refused(export.run, whole, "is to be read")
    unworked(published, "fetch")
    refused(published.run, published.PublishedSettings(out=tmp_path), tmp_path.name)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("module", "folder"), [("pipeline", "labels"), ("train", "run"), ("evaluate", "out"), ("evaluate", "cache")]
)
def test_a_folder_that_may_not_be_written_is_one_line(
    request: pytest.FixtureRequest, tmp_path: Path, module: str, folder: str
) -> None:
    made = request.getfixturevalue
    if module == "pipeline":
        words = labelling(made("videos"), tmp_path / "labels", made("network_folder"))
    elif module == "train":
        words = training(made("shards"), tmp_path / "run")
    else:
        words = [*ESC10, f"root={made('esc_root')}", f"checkpoint={made('checkpoint')}"]
        words += [f"{name}={tmp_path / name}" for name in ("out", "cache")]
    (tmp_path / folder).mkdir(mode=0o555)
    line = one_line(finish(start(module, *words, before=obey_permissions), 1))
    assert "Permission denied" in line and str(tmp_path / folder) in line
    assert not any((tmp_path / folder).iterdir())
