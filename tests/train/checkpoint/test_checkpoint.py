"""A checkpoint gives back the network and where it comes from, and what is no checkpoint is refused in one line."""

from __future__ import annotations

import errno
import os
import pickle
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import FORMAT, Checkpoint, build, load, load_network, load_student, save
from train.model.layers import Layer, StudentSpec

SPEC = StudentSpec(
    "small",
    [
        Layer("conv1", 6, 2, 3, 4),
        Layer("pool1", 3, 3),
        Layer("conv2", 4, 2, 1, 5),
        Layer("conv3", 4, 2, 1, 5),
        Layer("conv4", 4, 2, 1, 6),
    ],
    Layer("conv5", 3, 2, 1),
)
CLIP = ClipSpec(sample_rate=100, seconds=2, windows=2)


def card(*classes: str) -> TeacherCard:
    return TeacherCard("alexnet", "weights.pth", "ab" * 32, {"resize": 256, "crop": 224}, classes)


def checkpoint() -> Checkpoint:
    teachers = {"scenes": card("beach", "office"), "objects": card("dog", "cat", "car")}
    network = build(SPEC, {"scenes": 2, "objects": 3}, sample_rate=100, seed=5)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return Checkpoint(
        spec=SPEC,
        clip=CLIP,
        teachers=teachers,
        network=network.state_dict(),
        training_mean={"scenes": torch.tensor([0.25, 0.75])},
        optimizer=optimizer.state_dict(),
        position={"clips": 640, "seed": 3},
        config={"loss": "kl", "learn_from": ["scenes", "objects"]},
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    saved = checkpoint()
    save(tmp_path / "a.pt", saved)
    loaded = load(tmp_path / "a.pt")
    for name in ("spec", "clip", "teachers", "position", "config", "format"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert list(loaded.heads) == ["scenes", "objects"]  # the order of conv8's features
    torch.testing.assert_close(loaded.network, saved.network, rtol=0, atol=0)
    torch.testing.assert_close(loaded.training_mean, saved.training_mean, rtol=0, atol=0)
    torch.testing.assert_close(loaded.optimizer, saved.optimizer, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_student_answers_as_before(tmp_path: Path) -> None:
    saved = checkpoint()
    save(tmp_path / "a.pt", saved)
    student, loaded = load_student(tmp_path / "a.pt")
    before = build(SPEC, loaded.heads, sample_rate=100)
    before.load_state_dict(saved.network)
    waveform = torch.randn(1, 200, generator=torch.Generator().manual_seed(0))
    assert not student.training and student.sample_rate == 100
    assert all(torch.equal(logits, before.eval()(waveform)[head]) for head, logits in student(waveform).items())


def test_autoencoder_has_features_but_is_no_student(tmp_path: Path) -> None:
    spec = replace(SPEC, kind="autoencoder")
    network = build(spec, {}, sample_rate=100)
    save(tmp_path / "a.pt", Checkpoint(spec=spec, clip=CLIP, teachers={}, network=network.state_dict()))
    loaded, _ = load_network(tmp_path / "a.pt")
    waveform = torch.ones(1, 200)
    assert torch.equal(
        loaded.features(waveform, ["conv4"])["conv4"], network.eval().features(waveform, ["conv4"])["conv4"]
    )
    with pytest.raises(UserError, match="holds an autoencoder, which has no heads"):
        load_student(tmp_path / "a.pt")


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"student\.kind=transformer"):
        build(replace(SPEC, kind="transformer"), {"objects": 2}, sample_rate=100)


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.pt", checkpoint())
    before = (tmp_path / "a.pt").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.pt cannot be written: No space left on device"):
        save(tmp_path / "a.pt", replace(checkpoint(), config={}))
    assert (tmp_path / "a.pt").read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        load(tmp_path / "none.pt")
    (tmp_path / "nothing.pt").touch()
    (tmp_path / "text.pt").write_text("hello" * 100)
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"format": FORMAT}, protocol=4))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    torch.save([1], tmp_path / "list.pt")
    torch.save({"format": FORMAT}, tmp_path / "bare.pt")
    torch.save({"format": FORMAT, "spec": print, "network": {}}, tmp_path / "code.pt")
    for names, line in {
        ("nothing",): r"nothing\.pt is empty \(0 bytes\): fetch it again, or train it again",
        ("text", "pickle", "model", "code"): r"is not a checkpoint of this program: .* Such a file can execute code",
        ("weights", "list", "bare"): r"it is a PyTorch file, but does not say which network it is of\. Give best\.pt",
    }.items():
        for name in names:
            with warnings.catch_warnings(), pytest.raises(UserError, match=line) as caught:
                warnings.simplefilter("error")
                load(tmp_path / f"{name}.pt")
            assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    torch.save({"format": FORMAT + 1, "spec": {}, "network": {}}, tmp_path / "newer.pt")
    with pytest.raises(UserError, match=f"has format {FORMAT + 1}, this program reads {FORMAT}"):
        load(tmp_path / "newer.pt")


def test_a_file_cut_short_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    save(tmp_path / "whole.pt", checkpoint())
    data = (tmp_path / "whole.pt").read_bytes()
    for size in [*range(1, 200, 20), *range(200, len(data), len(data) // 50)]:
        (tmp_path / "cut.pt").write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut\.pt is not a checkpoint of this program: it is damaged"):
            load(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"filters": 10**12}, "is damaged: it describes a larger network than its"),
        ({"filters": 7}, "is damaged: its weights are not those of the network that it describes: size mismatch"),
        ({"name": "conv9"}, "is damaged: its weights are not those of the network that it describes: "),
        ({"kernel": 1.5}, r"is not a checkpoint of this program: spec\.layers\[0\]\.kernel"),
        ({"filters": True}, r"is not a checkpoint of this program: spec\.layers\[0\]\.filters"),
        ({"kind": ["residual"]}, r"is not a checkpoint of this program: spec\.layers\[0\]\.kind"),
    ],
)
def test_a_file_that_says_another_network_is_one_line(tmp_path: Path, changed: dict[str, object], line: str) -> None:
    fields = {name: getattr(checkpoint(), name) for name in Checkpoint.__dataclass_fields__}
    spec = asdict(SPEC)
    spec["layers"][0] |= changed
    fields |= {"spec": spec, "clip": asdict(CLIP)}
    fields["teachers"] = {head: asdict(card) for head, card in fields["teachers"].items()}
    torch.save(fields, tmp_path / "a.pt")
    with pytest.raises(UserError, match=line) as caught:
        load_network(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
