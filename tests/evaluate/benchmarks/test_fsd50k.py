"""FSD50K as it is published, in small: several classes a recording, and one line for each thing that can be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import average_precision_score

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from evaluate.probe.classifiers import FittedClassifier, LinearSVM, fit_svm
from evaluate.probe.compare import CompareSettings
from evaluate.probe.compare import run as compare
from evaluate.probe.features.windows import Windows
from evaluate.probe.run import EvaluateSettings, evaluate, run
from evaluate.probe.scores import Scores
from evaluate.supervised.finetune import hold_out
from shards.cli.command import compose
from shards.errors import UserError
from tests.evaluate.conftest import RATE, TONES, tone
from train.model.layers import StudentSpec

FSD50K = compose(BenchmarkSpec, "benchmark/fsd50k")
SIZES = {"train": 48, "val": 12, "test": 12}
LABELS = [("low",), ("middle",), ("high", "low"), ("middle", "high"), ("low", "middle"), ("high",)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Mixtures of tones, one row each of dev.csv and eval.csv, whose labels are parted by commas in quotes."""
    root = tmp_path / "FSD50K"
    truth = root / "FSD50K.ground_truth"
    truth.mkdir(parents=True)
    rows = {"dev": ["fname,labels,mids,split"], "eval": ["fname,labels,mids"]}
    number = 0
    for fold, size in SIZES.items():
        part = "eval" if fold == "test" else "dev"
        folder = root / f"FSD50K.{part}_audio"
        folder.mkdir(exist_ok=True)
        for index in range(size):
            number, labels = number + 1, LABELS[index % len(LABELS)]
            sound = sum(tone(label, 100 * number + at, 0.7) for at, label in enumerate(labels))
            soundfile.write(folder / f"{number}.wav", np.asarray(sound), RATE)
            row = f'{number},"{",".join(labels)}","{",".join("/m/0" for _ in labels)}"'
            rows[part].append(row + (f",{fold}" if part == "dev" else ""))
    for part, lines in rows.items():
        (truth / f"{part}.csv").write_text("\n".join(lines) + "\n")
    (truth / "vocabulary.csv").write_text("".join(f"{at},{name},/m/{at}\n" for at, name in enumerate(TONES)))
    return root


@pytest.fixture
def spec() -> BenchmarkSpec:
    return replace(FSD50K, recordings=72, seconds=1.0, window_seconds=0.4)


@pytest.fixture
def benchmark(spec: BenchmarkSpec, root: Path) -> Benchmark:
    return load_benchmark(spec, root)


def test_as_published() -> None:
    assert FSD50K.recordings == 40_966 + 10_231 and FSD50K.multilabel


def test_recordings_have_their_classes_and_val_chooses(benchmark: Benchmark) -> None:
    assert benchmark.classes == ("high", "low", "middle") and benchmark.tested == ("test",)
    (split,) = benchmark.splits()
    assert (len(split.train), len(split.test)) == (60, 12)
    for recording, row in zip(benchmark.recordings, benchmark.targets, strict=True):
        number = int(recording.path.stem) - 1
        place = number  # 48, 60 and 72 are divided by six
        assert {benchmark.classes[label] for label in np.nonzero(row)[0]} == set(LABELS[place % 6])
    folds = benchmark.folds[split.train]
    assert split.inner.tolist() == [0 if fold == "val" else -1 for fold in folds]  # 0: held out once, to choose C


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("dev", lambda rows: rows[:-1], "lists 71 recordings, fsd50k has 72"),
        ("dev", lambda rows: [*rows, rows[-1]], "lists FSD50K.dev_audio/60.wav 2 times"),
        ("dev", lambda rows: [*rows, "72,low,/m/0,val"], "has 72 in dev.csv and in eval.csv"),
        ("dev", lambda rows: [*rows, "73,low,/m/0,val"], "lacks 1 of its 73 recordings (first FSD50K.dev_audio/73.wav"),
        ("dev", lambda rows: [*rows[:-1], "60,choir,/m/0,val"], "has 60 as 'choir', which is not in vocabulary.csv"),
        ("dev", lambda rows: [*rows[:-1], '60,"low,",/m/0,val'], "has 60 as '', which is not in vocabulary.csv"),
        ("dev", lambda rows: [*rows[:-1], '60,"low,low",/m/0,val'], "has 60 as low twice"),
        ("dev", lambda rows: [*rows[:-1], "60,low,/m/0,test"], "has 60 in split test, there are train and val"),
        ("dev", lambda rows: [*rows[:-1], "60,,/m/0,val"], "row 61 has no labels"),
        ("dev", lambda rows: [row.replace(",split", ",part") for row in rows], "has no column split"),
        ("eval", lambda rows: rows[:1], "eval.csv holds no row"),
        (
            "eval",
            lambda rows: [row for row in rows if "high" not in row],
            "eval.csv has no recording of high (1 of",
        ),
        ("dev", lambda rows: [row for row in rows if "low" not in row], "dev.csv has no recording of low (1 of the 3"),
        ("vocabulary", lambda rows: [*rows, "3,siren,/m/3"], "dev.csv has no recording of siren (1 of the 4"),
        ("vocabulary", lambda rows: [*rows, rows[0]], "lists low twice"),
        ("vocabulary", lambda rows: ["low", *rows], "line 1 has no class behind a comma"),
        ("vocabulary", lambda rows: [], "holds no line"),
    ],
)
def test_faults(
    spec: BenchmarkSpec, root: Path, file: str, change: Callable[[list[str]], list[str]], line: str
) -> None:
    edit(root / "FSD50K.ground_truth" / f"{file}.csv", change)
    if "lacks 1" in line:
        spec = replace(spec, recordings=73)
    with pytest.raises(UserError) as caught:
        load_benchmark(spec, root)
    assert line in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["dev", "eval", "vocabulary"])
def test_a_table_that_is_not_there(spec: BenchmarkSpec, root: Path, file: str) -> None:
    (root / "FSD50K.ground_truth" / f"{file}.csv").unlink()
    with pytest.raises(UserError, match=rf"{file}.csv does not exist. Get FSD50K \(https://zenodo"):
        load_benchmark(spec, root)


def test_what_takes_one_class_a_recording_refuses(benchmark: Benchmark) -> None:
    with pytest.raises(UserError, match="fsd50k has several classes a recording"):
        hold_out(benchmark, None)


@pytest.fixture
def settings(spec: BenchmarkSpec, root: Path, tiny: StudentSpec, checkpoint: Path, tmp_path: Path) -> EvaluateSettings:
    return EvaluateSettings(spec, root, tiny, checkpoint, layers=["conv2"], cache=tmp_path / "cache", seeds=1)


def test_mean_average_precision_from_sounds_to_scores(
    settings: EvaluateSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three tones are told apart in mixtures, and the file has all that the number was made of."""
    run(replace(settings, grid=[0.01, 0.1, 1.0, 10.0, 100.0], out=tmp_path / "out"))
    printed = capsys.readouterr().out
    scores = Scores.load(tmp_path / "out")
    (score,) = scores.scores
    tested = [at for at, recording in enumerate(scores.recordings) if recording.fold == "test"]
    positive = [
        [label in (scores.recordings[at].label, *scores.recordings[at].others) for label in range(3)] for at in tested
    ]
    decided = np.array([score.decisions[at] for at in tested], np.float64)
    expected = average_precision_score(np.array(positive), decided, average=None)
    assert [score.per_class[name] for name in scores.classes] == pytest.approx(expected.tolist(), abs=1e-4)
    assert score.value == pytest.approx(expected.mean(), abs=1e-4) and score.value > 0.9
    assert score.interval[0] <= score.value <= score.interval[1] and score.recordings == 12
    assert f"checkpoint conv2 linear SVM: mean average precision {score.value:.3f} on 12 recordings (" in printed
    assert "1 score on fsd50k" in printed
    with pytest.raises(UserError, match="a is a mean average precision: pairs are compared by whether"):
        compare(CompareSettings(tmp_path / "out", shutil.copytree(tmp_path / "out", tmp_path / "other")))


def test_baselines(settings: EvaluateSettings) -> None:
    scores = evaluate(replace(settings, checkpoint=None, baselines=["random", "mfcc"], C=0.01)).scores
    assert [score.features for score in scores] == ["random network", "MFCC statistics"]
    with pytest.raises(UserError, match=r"baselines=\[forest\] names one class a recording"):
        evaluate(replace(settings, baselines=["forest"]))


def test_labels_by_chance_are_not_learned(settings: EvaluateSettings, root: Path) -> None:
    """Nothing of the test set reaches its classifiers: with labels of dev permuted, precision falls."""
    truth = root / "FSD50K.ground_truth" / "dev.csv"
    header, *rows = truth.read_text().splitlines()
    ends = [row.partition(",")[2] for row in rows]
    truth.write_text("\n".join([header, *(f"{at + 1},{ends[at - 2]}" for at in range(len(rows)))]) + "\n")
    (score,) = evaluate(replace(settings, C=0.01)).scores
    assert score.value < 0.75


def test_C_is_chosen_on_val_alone(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    """The C whose classifier of `train` has the highest precision on `val`, as found one by one."""
    generator = np.random.default_rng(0)
    targets = generator.random((80, 2)) < 0.4
    values = (generator.normal(0, 1, (80, 12)) + targets @ generator.normal(0, 0.5, (2, 12))).astype(np.float32)
    windows, inner = Windows(values, np.arange(80)), np.where(np.arange(80) < 50, -1, 0)
    grid, fits = (1e-4, 1e-2, 1.0), []

    def fitted(windows: Windows, labels: np.ndarray, C: float) -> FittedClassifier:  # noqa: N803
        fits.append((len(labels), C))
        return fit_svm(windows, labels, C)

    monkeypatch.setattr("evaluate.probe.classifiers.fit_svm", fitted)
    chosen = LinearSVM(grid=grid).fit(windows, targets, inner)
    assert sorted(fits) == [(50, C) for C in grid] + [(80, chosen.C)]
    train, val = np.arange(50), np.arange(50, 80)
    precision = {
        C: average_precision_score(targets[val], fit_svm(windows.of(train), targets[train], C).score(windows.of(val)))
        for C in grid
    }
    assert max(precision, key=precision.__getitem__) == chosen.C
