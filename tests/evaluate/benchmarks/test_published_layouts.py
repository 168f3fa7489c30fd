"""UrbanSound8K and the TUT scenes as they are published, in small; and one line for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from shards.cli.command import compose
from shards.errors import UserError

URBAN = compose(BenchmarkSpec, "benchmark/urbansound8k")
TUT = {year: compose(BenchmarkSpec, f"benchmark/tut{year}") for year in (2016, 2017)}
HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"


@pytest.fixture
def urban_root(tmp_path: Path) -> Path:
    """Two slices of one recording of each class in each of ten folds; the files are empty: layouts read no sound."""
    root, rows = tmp_path / "UrbanSound8K", [HEADER]
    (root / "metadata").mkdir(parents=True)
    for fold in URBAN.folds:
        folder = root / "audio" / f"fold{fold}"
        folder.mkdir(parents=True)
        for number, category in enumerate(URBAN.classes):
            recording = 1000 * int(fold) + number
            for part in (0, 1):
                name = f"{recording}-{number}-0-{part}.wav"
                (folder / name).touch()
                rows.append(f"{name},{recording},0.0,4.0,1,{fold},{number},{category}")
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def tut_root(tmp_path: Path) -> Path:
    """Two segments of one recording of each class, tested in each of four folds."""
    root, spec = tmp_path / "TUT", TUT[2016]
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    rows = {}
    for fold in spec.folds:
        for number, category in enumerate(spec.classes):
            for part in (0, 30):
                name = f"audio/{chr(97 + number)}{int(fold):03}_{part}_{part + 30}.wav"
                (root / name).touch()
                rows[name] = (category, fold)
    (root / "meta.txt").write_text("".join(f"{name}\t{category}\n" for name, (category, _) in rows.items()))
    for fold in spec.folds:
        train = [f"{name}\t{category}" for name, (category, tested) in rows.items() if tested != fold]
        test = [name for name, (_, tested) in rows.items() if tested == fold]
        labelled = [f"{name}\t{rows[name][0]}" for name in test]
        for use, lines in {"train": train, "test": test, "evaluate": labelled}.items():
            (root / "evaluation_setup" / f"fold{fold}_{use}.txt").write_text("\n".join(lines) + "\n")
    return root


def small(spec: BenchmarkSpec, recordings: int) -> BenchmarkSpec:
    return replace(spec, recordings=recordings)


def line_of(spec: BenchmarkSpec, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_benchmark(spec, root)
    (line,) = str(caught.value).splitlines()
    return line


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def test_urbansound8k(urban_root: Path) -> None:
    benchmark = load_benchmark(small(URBAN, 200), urban_root)
    assert benchmark.tested == tuple(sorted(URBAN.folds)) and len(benchmark.splits()) == 10
    assert benchmark.grouping.startswith("100 groups")
    for split in benchmark.splits():
        assert len(split.test) == 20 and len(split.train) == 180 and len(set(split.inner)) == 9


def test_sizes_as_published() -> None:
    assert (URBAN.recordings, len(URBAN.classes), len(URBAN.folds)) == (8732, 10, 10)
    assert [(TUT[year].recordings, TUT[year].seconds, len(TUT[year].classes)) for year in TUT] == [
        (15 * 78, 30, 15),
        (15 * 312, 10, 15),
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda rows: rows[:-1], "lists 199 recordings, urbansound8k has 200"),
        (lambda rows: [*rows, rows[-1]], "lists audio/fold10/10009-9-0-1.wav 2 times"),
        (
            lambda rows: [*rows[:-1], rows[-1].replace("-1.wav", "-7.wav")],
            "lacks 1 of its 200 recordings (first au",
        ),
        (lambda rows: [*rows[:-1], rows[-1].replace(",10,", ",11,")], "in fold 11, urbansound8k has 1, 2, 3"),
        (lambda rows: [*rows[:-1], rows[-1].replace("street_music", "")], "row 201 has no class"),
        (lambda rows: [*rows[:-1], rows[-1].replace("street_music", "choir")], "holds choir, not among the classes"),
        (lambda rows: [rows[0].replace("fsID", "id"), *rows[1:]], "has no column fsID"),
        (lambda rows: rows[:1], "holds no row"),
        (lambda rows: [row for row in rows if "siren" not in row], "has no recordings of siren"),
        (lambda rows: [row.replace(",10009,", ",1009,") for row in rows], "group 1009 is in two folds"),
    ],
)
def test_faults_of_urbansound8k(urban_root: Path, change: Callable[[list[str]], list[str]], line: str) -> None:
    edit(urban_root / "metadata" / "UrbanSound8K.csv", change)
    assert line in line_of(small(URBAN, 200), urban_root)


def test_a_file_of_urbansound8k_that_is_not_there(urban_root: Path) -> None:
    (urban_root / "audio" / "fold3" / "3004-4-0-1.wav").unlink()
    line = line_of(small(URBAN, 200), urban_root)
    assert "lacks 1 of its 200 recordings (first audio/fold3/3004-4-0-1.wav)" in line and "urbansounddataset" in line
    (urban_root / "metadata" / "UrbanSound8K.csv").unlink()
    assert "UrbanSound8K.csv does not exist. Get UrbanSound8K" in line_of(URBAN, urban_root)


def test_tut(tut_root: Path) -> None:
    benchmark = load_benchmark(small(TUT[2016], 120), tut_root)
    assert benchmark.tested == ("1", "2", "3", "4")
    assert benchmark.grouping.startswith("60 groups")
    for split in benchmark.splits():
        train = (tut_root / "evaluation_setup" / f"fold{split.tested}_train.txt").read_text().split("\n")[:-1]
        names = {benchmark.recordings[index].name for index in split.train}
        assert names == {line.split("\t")[0] for line in train}
        assert len(split.test) == 30


def test_what_a_fold_of_tut_does_not_train_on_is_left_out_of_it(tut_root: Path) -> None:
    edit(tut_root / "evaluation_setup" / "fold2_train.txt", lambda rows: rows[2:])
    benchmark = load_benchmark(small(TUT[2016], 120), tut_root)
    assert [len(split.train) for split in benchmark.splits()] == [90, 88, 90, 90]


def test_without_labels_in_the_test_list(tut_root: Path) -> None:
    for fold in "1234":
        (tut_root / "evaluation_setup" / f"fold{fold}_evaluate.txt").unlink()
    assert len(load_benchmark(small(TUT[2016], 120), tut_root).splits()[0].test) == 30


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("meta.txt", lambda rows: rows[1:], "lists audio/a001_0_30.wav, which meta.txt does not have"),
        ("meta.txt", lambda rows: ["audio/a001_0_30.wav", *rows[1:]], "line 1 has no class behind a tab"),
        ("meta.txt", lambda rows: [rows[0], *rows], "lists audio/a001_0_30.wav twice"),
        ("meta.txt", lambda rows: [*rows, "audio/z_0_1.wav\tbus"], "tests audio/z_0_1.wav of meta.txt in no fold"),
        ("meta.txt", lambda rows: [], "meta.txt holds no line"),
        (
            "evaluation_setup/fold1_evaluate.txt",
            lambda rows: rows[1:],
            "tests audio/a001_0_30.wav of meta.txt in no fold",
        ),
        (
            "evaluation_setup/fold2_evaluate.txt",
            lambda rows: [*rows, "audio/a001_0_30.wav\tbeach"],
            "trains on audio/a001_0_30.wav, which it tests",
        ),
        (
            "evaluation_setup/fold1_evaluate.txt",
            lambda rows: [row.replace("beach", "bus") for row in rows],
            "has audio/a001_0_30.wav as bus, meta.txt as beach",
        ),
        ("evaluation_setup/fold1_train.txt", lambda rows: [*rows, "audio/q.wav\tbus"], "lists audio/q.wav, which meta"),
    ],
)
def test_faults_of_tut(tut_root: Path, file: str, change: Callable[[list[str]], list[str]], line: str) -> None:
    edit(tut_root / file, change)
    assert line in line_of(small(TUT[2016], 120), tut_root)


def test_files_of_tut_that_are_not_there(tut_root: Path) -> None:
    (tut_root / "audio" / "a001_0_30.wav").unlink()
    assert "lacks 1 of its 120 recordings" in line_of(small(TUT[2016], 120), tut_root)
    assert "lists 120 recordings, tut2016 has 1170" in line_of(TUT[2016], tut_root)
    (tut_root / "evaluation_setup" / "fold3_train.txt").unlink()
    assert "fold3_train.txt does not exist. Get TUT-acoustic-scenes-2016" in line_of(TUT[2016], tut_root)
