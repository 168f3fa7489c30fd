"""Benchmarks as they lie on disk, and one clear line for whatever is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.layouts import load_benchmark
from shards.cli.command import compose
from shards.errors import UserError

DCASE = compose(BenchmarkSpec, "benchmark/dcase2013")
Rewrite = Callable[[Callable[[list[str]], list[str]]], None]


@pytest.fixture
def dcase_root(tmp_path: Path) -> Path:
    """Names and folders of DCASE 2013; the files are empty, for layouts read no sound."""
    root = tmp_path / "dcase"
    for folder in ("scenes_stereo", "scenes_stereo_testset"):
        (root / folder).mkdir(parents=True)
        for category in DCASE.classes:
            for number in range(1, 11):
                (root / folder / f"{category}{number:02}.wav").touch()
    return root


def line_of(spec: BenchmarkSpec, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_benchmark(spec, root)
    (line,) = str(caught.value).splitlines()
    return line


def test_esc_folds_and_classes(esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    benchmark = load_benchmark(esc_spec, esc_root)
    assert benchmark.classes == ("low", "middle", "high")
    assert benchmark.tested == ("1", "2", "3")
    assert Counter(zip(benchmark.labels.tolist(), benchmark.folds.tolist(), strict=True)) == {
        (label, fold): 2 for label in range(3) for fold in ("1", "2", "3")
    }
    assert all("foreign" not in recording.name and recording.path.is_file() for recording in benchmark.recordings)


@pytest.mark.parametrize(("name", "recordings", "classes"), [("esc10", 400, 10), ("esc50", 2000, 50)])
def test_published_sizes_of_esc(name: str, recordings: int, classes: int) -> None:
    spec = compose(BenchmarkSpec, f"benchmark/{name}")
    assert (len(spec.classes), len(set(spec.classes))) == (classes, classes)
    assert len(spec.classes) * len(spec.folds) * (spec.per_class or 0) == recordings
    assert (spec.seconds, spec.window_seconds) == (10, 1)


def test_esc10_as_it_is_published(shared: Path) -> None:
    benchmark = load_benchmark(compose(BenchmarkSpec, "benchmark/esc10"), shared / "data" / "esc10")
    assert len(benchmark.recordings) == 400
    assert [len(split.test) for split in benchmark.splits()] == [80] * 5


def test_esc10_lies_in_esc50() -> None:
    small, large = (compose(BenchmarkSpec, f"benchmark/{name}").classes for name in ("esc10", "esc50"))
    assert set(small) < set(large)


def test_dcase_has_one_fixed_split(dcase_root: Path) -> None:
    benchmark = load_benchmark(DCASE, dcase_root)
    (split,) = benchmark.splits()
    names = [recording.name for recording in benchmark.recordings]
    assert len(split.train) == len(split.test) == 100 and 12 < DCASE.min_seconds <= DCASE.seconds == 30
    assert all(names[index].startswith("scenes_stereo/") for index in split.train)
    assert all(names[index].startswith("scenes_stereo_testset/") for index in split.test)
    assert benchmark.classes[benchmark.recordings[split.test[0]].label] == "bus"
    # Tube and tube station, bus and busy street are not taken for each other.
    assert Counter(benchmark.labels[split.test].tolist()) == dict.fromkeys(range(10), 10)


@pytest.mark.parametrize(
    ("lost", "made", "words"),
    [
        ("scenes_stereo/park04.wav", [], ["9 recordings of park in fold train", "has 10", "scenes_stereo.zip"]),
        ("*/office*", [], ["no recordings of office", "1 of the 10 classes"]),
        ("scenes_stereo_testset/*", [], ["scenes_stereo_testset holds no recordings", "unpack it to"]),
        ("none", ["scenes_stereo/beach01.wav"], ["beach01.wav is no recording of dcase2013"]),
    ],
)
def test_what_dcase_lacks_or_has_too_much_is_named(
    dcase_root: Path, lost: str, made: list[str], words: list[str]
) -> None:
    for path in dcase_root.glob(lost):
        path.unlink()
    for name in made:
        (dcase_root / name).touch()
    line = line_of(DCASE, dcase_root)
    assert [each for each in words if each not in line] == []


def test_esc_missing_file_is_named(esc_spec: BenchmarkSpec, esc_root: Path) -> None:
    (esc_root / "audio" / "2-1-B.wav").unlink()
    assert "lacks 1 of its 18 recordings (first audio/2-1-B.wav)" in line_of(esc_spec, esc_root)


def test_esc_doubled_row(esc_spec: BenchmarkSpec, esc_root: Path, rewrite_table: Rewrite) -> None:
    rewrite_table(lambda lines: [*lines, lines[1]])
    assert "lists audio/1-0-A.wav 2 times" in line_of(esc_spec, esc_root)


def test_esc_without_its_columns(esc_spec: BenchmarkSpec, esc_root: Path, rewrite_table: Rewrite) -> None:
    rewrite_table(lambda lines: [lines[0].replace("fold", "part"), *lines[1:]])
    assert "has no column fold" in line_of(esc_spec, esc_root)


def test_a_root_that_does_not_exist(esc_spec: BenchmarkSpec, tmp_path: Path) -> None:
    line = line_of(esc_spec, tmp_path / "nowhere")
    assert "nowhere does not exist" in line and "Get ESC-tiny" in line


@pytest.fixture
def own() -> BenchmarkSpec:
    return compose(BenchmarkSpec, "benchmark/folder")


def test_folder_per_class_deals_out_folds(own: BenchmarkSpec, tmp_path: Path) -> None:
    for category, count in (("bell", 7), ("horn", 5)):
        (tmp_path / category).mkdir()
        for index in range(count):
            (tmp_path / category / f"{index}.ogg").touch()
        (tmp_path / category / "notes.txt").touch()
    benchmark = load_benchmark(own, tmp_path)
    assert benchmark.classes == ("bell", "horn") and len(benchmark.recordings) == 12
    assert [len(split.test) for split in benchmark.splits()] == [3, 3, 2, 2, 2]
    assert all(set(benchmark.labels[split.test].tolist()) == {0, 1} for split in benchmark.splits())


def test_table_with_a_split(own: BenchmarkSpec, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        (tmp_path / name).touch()
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\na.wav,x,train\nb.wav,y,train\nc.wav,x,test\nd.wav,y,test\n")
    benchmark = load_benchmark(own, table)
    (split,) = benchmark.splits()
    assert [benchmark.recordings[index].name for index in split.test] == ["c.wav", "d.wav"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("path,label,fold\na.wav,x,1\nb.wav,y,\n", "have a fold or split and others have none"),
        ("path,label\na.wav,dog\nb.wav\n", "table.csv: row 3 has no label: ['b.wav', '']"),
    ],
)
def test_tables_with_holes(own: BenchmarkSpec, tmp_path: Path, rows: str, words: str) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "table.csv").write_text(rows)
    assert words in line_of(own, tmp_path / "table.csv")


def test_one_class_is_no_benchmark(own: BenchmarkSpec, tmp_path: Path) -> None:
    (tmp_path / "bell").mkdir()
    (tmp_path / "bell" / "a.wav").touch()
    assert "holds sounds of 1 class," in line_of(own, tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_a_spreadsheet_writes_it(own: BenchmarkSpec, tmp_path: Path, delimiter: str) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        (tmp_path / name).touch()
    text = "\ufeffpath,label,split\r\na.wav,x,train\r\nb.wav,y,train\r\nc.wav,x,test\r\nd.wav,y,test\r\n"
    (tmp_path / "own.csv").write_text(text.replace(",", delimiter), encoding="utf-8", newline="")
    benchmark = load_benchmark(own, tmp_path / "own.csv")
    assert benchmark.classes == ("x", "y") and benchmark.tested == ("test",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"path,label\na.wav,x\n\0\n", "row 3: UTF-16 text, or no text at all"),
        ("path,label\na.wav,x\n".encode("utf-16"), "row 1: UTF-16 text"),
        (b'path,label\na.wav,"x\nb.wav,y\n', "row 2: unexpected end of data"),
        (b"path,label\na.wav,x,z\n", "row 2: it has 3 fields and the first row 2"),
        (b"path,label\n", "own.csv holds no row"),
        (b"", "row 1: it has no column path or label"),
    ],
)
def test_a_table_that_is_none(own: BenchmarkSpec, tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "own.csv").write_bytes(data)
    assert message in line_of(own, tmp_path / "own.csv")
