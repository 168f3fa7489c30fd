"""Exported files say what their checkpoint says: through onnxruntime at lengths of our own, and loaded back."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint import onnx_file
from train.checkpoint.checkpoint import Checkpoint, build, load, load_network, save
from train.checkpoint.export import ExportSettings, run
from train.model.layers import Layer, StudentSpec
from train.model.student import scaled

RATE = 1000
CLIP = ClipSpec(sample_rate=RATE, seconds=2.0, windows=2)
PLAIN = StudentSpec(
    "plain", [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4), Layer("conv2", 8, 4, 4, 6)], Layer("conv3", 6, 3)
)
DEEP = StudentSpec(
    "deep",
    [Layer("conv1", 9, 5, 4, 4), Layer("block1", 5, 5, 2, 8, "residual"), Layer("pool", 10, 10, kind="mean")],
    Layer("conv", 1, 1),
)


def checkpoint(spec: StudentSpec) -> Checkpoint:
    """A network with numbers of ordinary size, so that the outputs differ from class to class."""
    cards = {
        "objects": TeacherCard("alexnet", "alexnet.pth", "ab" * 32, {"resize": 256}, ("dog", "cat|tom", "car")),
        "scenes": TeacherCard("resnet50", "places.pth", "cd" * 32, {}, ("beach", "office")),
    }
    network = build(spec, {head: len(card.classes) for head, card in cards.items()}, sample_rate=RATE)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            low, high = (50.0, 200.0) if name.endswith("running_var") else (-0.5, 0.5)
            tensor.uniform_(low, high, generator=generator)
    mean = {"objects": torch.tensor([0.5, 0.25, 0.25]), "scenes": torch.tensor([0.25, 0.75])}
    measures = {"kl": 0.5194, "kl_mean": 1.8777, "kl_uniform": 3.3871, "top1": 0.5, "top1_mean": 0.1}
    measures |= {"top5": 0.9, "top5_mean": 0.4}
    means = {f"{head}/{name}": value for head in cards for name, value in measures.items()}
    return Checkpoint(
        spec=spec,
        clip=CLIP,
        teachers=cards,
        network=network.state_dict(),
        training_mean=mean,
        optimizer={"state": {}},
        position={"step": 80, "consumed": 640, "seed": 0},
        best=1.0,
        held_out={"step": 80, "clips": 15, "mean": means},
        config={"loss": "kl", "lr": 0.001, "shards": "/home/somebody/shards"},
    )


@pytest.fixture(params=[PLAIN, DEEP], ids=["plain", "deep"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save(tmp_path / "net.pt", checkpoint(request.param))
    return tmp_path / "net.pt"


@pytest.mark.faults  # slow: torch's exporter
@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_says_what_the_network_says(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(ExportSettings(saved))
    assert "largest difference" in capsys.readouterr().out
    path = saved.with_suffix(".onnx")
    session = onnxruntime.InferenceSession(str(path))
    network, stored = load_network(saved)
    facts = session.get_modelmeta().custom_metadata_map
    outputs = [output.name for output in session.get_outputs()]
    hidden = [name for name in outputs if name not in stored.teachers]
    assert hidden == (["pool1", "conv2"] if network.spec.name == "plain" else ["pool"])
    assert set(json.loads(facts["outputs"])) == set(outputs) and facts["sample_rate"] == "1000"
    assert json.loads(facts["classes"]) == {"objects": ["dog", "cat|tom", "car"], "scenes": ["beach", "office"]}
    assert json.loads(facts["teachers"])["scenes"]["weights_sha256"] == "cd" * 32
    least = int(facts["shortest_samples"])
    assert network.output_steps(least) == 1 and network.output_steps(least - 1) == 0
    random = np.random.default_rng(0)
    for batch, samples in ((1, least), (4, 1003), (2, 2771)):  # other lengths and batches than the command tries
        waveform = random.integers(-20000, 20000, (batch, samples)).astype(np.int16)
        given = dict(zip(outputs, session.run(outputs, {"waveform": np.float32(waveform) / 32768}), strict=True))
        with torch.inference_mode():
            scaled_waveform = scaled(torch.from_numpy(waveform))
            wanted = network.features(scaled_waveform, hidden) | {
                head: torch.log_softmax(logits, 1) for head, logits in network(scaled_waveform).items()
            }
        for name in outputs:
            assert wanted[name].std() > 0.01
            np.testing.assert_allclose(given[name], wanted[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
    assert sorted(each.name for each in saved.parent.iterdir()) == ["net.onnx", "net.onnx.md", "net.pt"]


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_disagrees_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Louder(onnx_file.Graph):
        def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return super().forward(waveform * 1.01)

    save(tmp_path / "net.pt", checkpoint(PLAIN))
    monkeypatch.setattr(onnx_file, "Graph", Louder)
    with pytest.raises(UserError, match=r"net\.onnx is not kept: .* more than 0\.0001 .*scenes"):
        run(ExportSettings(tmp_path / "net.pt"))
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.filterwarnings("ignore")
def test_features_alone_take_shorter_sounds(tmp_path: Path) -> None:
    save(tmp_path / "net.pt", checkpoint(PLAIN))
    run(ExportSettings(tmp_path / "net.pt", out=tmp_path / "features.onnx", outputs=["pool1"]))
    session = onnxruntime.InferenceSession(str(tmp_path / "features.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    assert int(facts["shortest_samples"]) == PLAIN.min_samples("pool1") < PLAIN.min_samples()
    assert len(session.run(None, {"waveform": np.zeros((1, PLAIN.min_samples("pool1")), np.float32)})) == 1
    with pytest.raises(UserError, match=r"outputs=pool9: choose among conv1, pool1, conv2, objects, scenes"):
        run(ExportSettings(tmp_path / "net.pt", outputs=["pool9"]))
    with pytest.raises(UserError, match=r"out=a\.pt: a file of format=onnx is called \.\.\.\.onnx"):
        run(ExportSettings(tmp_path / "net.pt", out=Path("a.pt")))


def test_safetensors_come_back_as_the_checkpoint(saved: Path) -> None:
    run(ExportSettings(saved, format="safetensors"))
    first, second = load(saved), load(saved.with_suffix(".safetensors"))
    for name in Checkpoint.__dataclass_fields__:
        if name not in ("network", "training_mean", "optimizer"):
            assert getattr(first, name) == getattr(second, name), name
    assert list(second.heads) == ["objects", "scenes"] and second.optimizer is None
    torch.testing.assert_close(second.network, first.network, rtol=0, atol=0)
    torch.testing.assert_close(second.training_mean, first.training_mean, rtol=0, atol=0)
    with pytest.raises(UserError, match=r"net\.safetensors would be replaced, and is to be read"):
        run(ExportSettings(saved.with_suffix(".safetensors"), format="safetensors"))
    assert b"pickle" not in saved.with_suffix(".safetensors").read_bytes()[:4096]
    waveform = torch.ones(1, 2000)
    networks = [load_network(each)[0] for each in (saved, saved.with_suffix(".safetensors"))]
    assert torch.equal(*(network(waveform)["scenes"] for network in networks))


def test_other_safetensors_are_refused_in_one_line(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00")
    for name, reason in (("foreign", "no entry soundnet"), ("torn", "")):
        with pytest.raises(UserError, match=f"is not a checkpoint of this program: .*{reason}") as caught:
            load(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", [pytest.param("onnx", marks=pytest.mark.faults), "safetensors"])
def test_the_card_says_the_facts_and_its_example_runs(
    tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "net.pt", checkpoint(PLAIN))
    run(ExportSettings(tmp_path / "net.pt", format=file_format))  # type: ignore[arg-type]
    card = (tmp_path / f"net.{file_format}.md").read_text()
    parameters = (16 + 3) * 4 + (8 * 4 + 3) * 6 + (6 * 6 + 1) * 5  # weights, bias and batch norm; heads
    hashed = subprocess.run(["sha256sum", tmp_path / f"net.{file_format}"], capture_output=True, text=True).stdout
    for fact in (
        f"{parameters} trainable numbers", "1,000 Hz", "640 clips in 80 steps, which is 0.4 h", "`loss=kl`", "ab" * 32,
        "dog; cat/tom; car", "On 15 held-out clips, after step 80", "| scenes | 0.519 | 1.878 | 3.387 |",
        "50.0% (training mean 10.0%)", hashed.split()[0], "MIT license", "clips of 2 s",
    ):  # fmt: skip
        assert fact in card, fact
    assert "/home/somebody" not in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert rows and {line.count("|") for line in rows} <= {3, 6, 7}
    soundfile.write(tmp_path / "sound.wav", np.random.default_rng(0).normal(0, 0.1, (3000, 2)), RATE)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(code, {})
    printed = capsys.readouterr().out
    expected = ["conv2"] if file_format == "safetensors" else ["objects ", "\nscenes "]
    assert all(name in printed for name in expected)


def test_every_kind_of_checkpoint_has_a_card(tmp_path: Path) -> None:
    from train.checkpoint.modelcard import card_of

    layers = [Layer(f"conv{index}", 4, 2, 1, 4) for index in (1, 2, 3, 4)]
    spec = StudentSpec("echo", layers, Layer("conv5", 2, 1), kind="autoencoder")
    autoencoder = build(spec, {}, sample_rate=RATE)
    assert onnx_file.choose_outputs(autoencoder, None) == ["conv4"]
    assert onnx_file.shortest(autoencoder, ["conv1"]) == spec.min_samples("conv1")
    network = autoencoder.state_dict()
    measured = {"step": 1, "clips": 3, "mean": {"mse": 0.25, "mse_silence": 1.0}}
    echo = Checkpoint(spec=spec, clip=CLIP, teachers={}, network=network, held_out=measured)
    assert "on 3 held-out clips: 0.2500; silence has 1.0000" in card_of(echo, "echo.pt")
    assert "does not say" in card_of(echo, "echo.pt") and "names nothing" in card_of(echo, "echo.pt")
    assert "holds no validation" in card_of(replace(echo, held_out=None), "echo.pt")
    labelled = replace(
        checkpoint(PLAIN),
        teachers={"classes": TeacherCard("labels", "mine", "ef" * 32, {}, ("rain", "dog", "clock", "engine"))},
        held_out={"step": 5, "clips": 8, "mean": {"classes/top1": 0.875, "classes/top1_mean": 0.5}},
    )
    card = card_of(labelled, "mine.pt")
    assert "names 87.5% of 8 held-out recordings rightly" in card and "right for 50.0%" in card
    assert "labels of 4 classes" in card and "4: rain; dog; clock ..." in card and "no other" in card


def test_a_run_leaves_a_card_of_its_best(tmp_path: Path, spec: StudentSpec, make_shards: Callable[..., Path]) -> None:
    from train.run import run as train
    from train.settings import TrainSettings

    shards = make_shards(tmp_path / "shards", {"train-000000": 8, "validation-000000": 4})
    settings = TrainSettings(shards=str(shards), student=spec, run=tmp_path / "run", device="cpu", compile=False)
    train(replace(settings, batch=4, steps=3, validate_every=3))
    found = json.loads((tmp_path / "run" / "validation.json").read_text())
    for name in ("best.pt", "last.pt"):
        assert load(tmp_path / "run" / name).held_out == {key: found[key] for key in ("step", "clips", "mean")}
    card = (tmp_path / "run" / "card.md").read_text()
    assert card.startswith("# best.pt\n") and f"| objects | {found['mean']['objects/kl']:.3f} |" in card
