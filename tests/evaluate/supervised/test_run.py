"""Training on labels: three tones are learned, and the folds a network has seen are not tested with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.run import EvaluateSettings, evaluate
from evaluate.probe.scores import Scores
from evaluate.supervised.finetune import FinetuneSettings
from evaluate.supervised.run import SupervisedSettings, build_network, excerpts, run
from shards.cli.command import compose, help_of
from shards.errors import UserError
from shards.format.clip import ClipSpec
from train.checkpoint import hub
from train.checkpoint.checkpoint import load, load_student
from train.checkpoint.export import ExportSettings
from train.checkpoint.export import run as run_export
from train.model.layers import Layer, StudentSpec

SMALL = StudentSpec("small", [Layer("conv1", 64, 8, 32, 8), Layer("pool1", 32, 32)], Layer("conv2", 8, 4))


@pytest.fixture
def settings(esc_spec: BenchmarkSpec, esc_root: Path, tmp_path: Path) -> SupervisedSettings:
    return SupervisedSettings(
        esc_spec,
        esc_root,
        SMALL,
        seconds=0.5,
        steps=60,
        batch=12,
        lr=0.01,
        device="cpu",
        out=tmp_path / "supervised",
        compile=False,
    )


def test_labels_are_learned_and_recorded(settings: SupervisedSettings, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings)
    (score,) = Scores.load(settings.folder).scores
    assert score.value > 0.8 and score.recordings == 18
    assert score.layer is None and score.features == "supervised small"
    trained = load(settings.folder / "2.pt")
    seen = trained.config["supervised"]
    assert (seen["benchmark"], seen["folds"], len(set(seen["recordings"]))) == ("esc-tiny", ["1", "3"], 12)
    assert trained.training_mean is not None
    torch.testing.assert_close(trained.training_mean["classes"], torch.full((3,), 1 / 3))
    assert trained.teachers["classes"].classes == ("low", "middle", "high")
    capsys.readouterr()
    run(settings)
    assert "step" not in capsys.readouterr().out  # all three networks are there
    with pytest.raises(UserError, match=r"lr: .*1\.pt has 0\.01, this run 0\.1\. Delete"):
        run(replace(settings, lr=0.1))
    with pytest.raises(ValueError, match=r"seconds=2 of one excerpt .* at most benchmark\.seconds=1,"):
        replace(settings, seconds=2)


@pytest.mark.parametrize(("kind", "config"), [(SupervisedSettings, "supervised"), (FinetuneSettings, "finetune")])
def test_several_classes_a_recording_are_neither_offered_nor_taken(kind: type, config: str) -> None:
    given = ["benchmark=fsd50k", "root=x", *(["checkpoint=x"] if kind is FinetuneSettings else [])]
    with pytest.raises(ValueError, match="fsd50k has several classes a recording, and a network learns one here: take"):
        compose(kind, config, given)
    assert "fsd50k, tut2016" not in help_of(kind, config) and "folder, tut2016, tut2017" in help_of(kind, config)
    assert "folder, fsd50k, tut2016" in help_of(EvaluateSettings, "evaluate")


def test_svm_on_a_supervised_network_may_only_test_its_own_fold(settings: SupervisedSettings, tmp_path: Path) -> None:
    run(replace(settings, folds=["3"], steps=2))
    probe = EvaluateSettings(
        settings.benchmark, settings.root, SMALL, settings.folder / "3.pt", layer="conv1", C=0.01, cache=tmp_path
    )
    with pytest.raises(UserError, match=r"labels of esc-tiny, and 12 of the recordings .*folds=\[3\]"):
        evaluate(probe)
    (score,) = evaluate(replace(probe, folds=["3"])).scores
    assert list(score.per_fold) == ["3"]


def test_excerpts_come_from_training_recordings(settings: SupervisedSettings) -> None:
    benchmark = load_benchmark(settings.benchmark, settings.root)
    recordings = Recordings(benchmark, 8000)
    split = benchmark.splits()[1]
    batch = next(excerpts(settings, recordings, split, torch.device("cpu")))
    assert batch.waveforms.shape == (12, 4000) and batch.waveforms.dtype == torch.int16
    whole = {index: recordings.repeated(index).tobytes() for index in split.train}
    for waveform, label in zip(batch.waveforms.numpy(), batch.labels.tolist(), strict=True):
        owners = [index for index, sound in whole.items() if waveform.tobytes() in sound]
        assert owners and {int(benchmark.labels[index]) for index in owners} == {label}


@pytest.mark.parametrize(("student", "kernel"), [("soundnet8", 4), ("soundnet5", 14), ("resnet1d", 1)])
def test_the_output_layer_has_one_step_for_an_excerpt(
    settings: SupervisedSettings, esc_root: Path, student: str, kernel: int
) -> None:
    """The authors fine-tune SoundNet8 with conv(1024, classes, 4) on 5 s."""
    recordings = Recordings(load_benchmark(settings.benchmark, esc_root), ClipSpec().sample_rate)
    spec = compose(StudentSpec, f"student/{student}")
    longer = replace(settings.benchmark, seconds=5.0)
    network = build_network(replace(settings, benchmark=longer, student=spec, seconds=5.0), recordings)
    assert network.heads["classes"].kernel_size == (kernel,)
    assert network.output_steps(110_250) == 1


def test_fine_tuning_begins_with_the_checkpoints_layers(settings: SupervisedSettings, checkpoint: Path) -> None:
    recordings = Recordings(load_benchmark(settings.benchmark, settings.root), 8000)
    network = build_network(replace(settings, start=checkpoint), recordings)
    start = load_student(checkpoint)[0]
    for name, value in start.blocks.state_dict().items():
        assert torch.equal(network.blocks.state_dict()[name], value)
    assert network.heads["classes"].out_channels == 3
    assert np.isfinite(network.heads["classes"].weight.detach().numpy()).all()


def test_it_begins_with_a_checkpoint_of_hugging_face_as_with_the_same_file(
    settings: SupervisedSettings, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_export(ExportSettings(checkpoint, "hub", tmp_path / "on the hub"))
    monkeypatch.setattr(hub, "_fetched", lambda name, revision: tmp_path / "on the hub")
    for start, out in ((checkpoint, "a"), (Path("anybody/net@v1"), "b")):
        run(replace(settings, start=start, out=tmp_path / out, folds=["3"], steps=2))
    one, other = load(tmp_path / "a/3.pt").network, load(tmp_path / "b/3.pt").network
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
