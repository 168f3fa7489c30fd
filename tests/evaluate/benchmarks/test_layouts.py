"""Benchmarks as they lie on disk, and one clear line for whatever is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluate.benchmarks.benchmark import Benchmark, BenchmarkSpec
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


def parted(benchmark: Benchmark, source_of: dict[str, str]) -> int:
    """Tested recordings that have another take among those learned from, of all splits; inner splits too."""
    sources = np.array([source_of[recording.path.name] for recording in benchmark.recordings])
    found = 0
    for split in benchmark.splits():
        found += int(np.isin(sources[split.test], sources[split.train]).sum())
        for fold in np.unique(split.inner):
            inner = sources[split.train]
            found += int(np.isin(inner[split.inner == fold], inner[split.inner != fold]).sum())
    return found


def esc10_in_folders(shared: Path, folder: Path, *, groups: bool) -> dict[str, str]:
    """ESC-10 as a folder per class, with or without a sub-folder per source; {file name: source}."""
    source_of = {}
    for path in sorted((shared / "data" / "esc10" / "audio").iterdir()):
        _, source, _, category = path.stem.split("-")  # 1-100032-A-0: fold, source, take, class
        target = folder / category / (source if groups else "") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
        source_of[path.name] = source
    return source_of


def test_esc10_in_folders_has_takes_on_both_sides_without_groups(
    own: BenchmarkSpec, shared: Path, tmp_path: Path
) -> None:
    source_of = esc10_in_folders(shared, tmp_path, groups=False)
    benchmark = load_benchmark(own, tmp_path)
    assert len(benchmark.recordings) == 400 and parted(benchmark, source_of) > 100
    assert benchmark.grouping.startswith("no groups: takes of one source may be on both sides")


def test_esc10_in_folders_with_groups_has_none(own: BenchmarkSpec, shared: Path, tmp_path: Path) -> None:
    source_of = esc10_in_folders(shared, tmp_path, groups=True)
    benchmark = load_benchmark(own, tmp_path)
    assert len(benchmark.recordings) == 400 and parted(benchmark, source_of) == 0
    assert benchmark.grouping == f"{len(set(source_of.values()))} groups, each on one side of every split"
    counts = Counter(zip(benchmark.labels.tolist(), benchmark.folds.tolist(), strict=True))
    assert len(counts) == 50 and min(counts.values()) >= 6 and max(counts.values()) <= 10  # 8 of each in each


def test_esc10_as_it_is_published_knows_its_sources(shared: Path) -> None:
    benchmark = load_benchmark(compose(BenchmarkSpec, "benchmark/esc10"), shared / "data" / "esc10")
    assert parted(benchmark, {each.path.name: each.path.name.split("-")[1] for each in benchmark.recordings}) == 0
    assert "groups, each on one side of every split" in benchmark.grouping


def table_of(folder: Path, text: str) -> Path:
    for line in text.splitlines()[1:]:
        (folder / line.partition(",")[0]).touch()
    (folder / "table.csv").write_text(text)
    return folder / "table.csv"


def test_a_column_says_the_group(own: BenchmarkSpec, tmp_path: Path) -> None:
    rows = [
        f"{label}{source}{take}.wav,{label},{label}{source}" for label in "xy" for source in range(6) for take in "ABC"
    ]
    table = table_of(tmp_path, "\n".join(["path,label,group", *rows, "single.wav,x,"]))
    benchmark = load_benchmark(own, table)
    assert benchmark.grouping == "12 groups, each on one side of every split; 1 recording has none"
    named = {each.name: each.group or each.name for each in benchmark.recordings}
    assert parted(benchmark, named) == 0 and len(benchmark.tested) == 5


def test_inner_folds_of_one_training_set_keep_groups_together(own: BenchmarkSpec, tmp_path: Path) -> None:
    rows = [
        f"{label}{source}{take}.wav,{label},{label}{source},train"
        for label in "xy"
        for source in range(7)
        for take in "AB"
    ]
    rows += ["x.wav,x,x,test", "y.wav,y,y,test"]
    benchmark = load_benchmark(own, table_of(tmp_path, "\n".join(["path,label,group,split", *rows])))
    assert parted(benchmark, {each.name: each.group for each in benchmark.recordings}) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,label,group,fold\na.wav,x,tape,1\nb.wav,y,,1\nc.wav,x,tape,2\nd.wav,y,,2\n",
            "group tape is in two folds (a.wav in 1, c.wav in 2): takes of one source belong into one",
        ),
        (
            "path,label,group\na.wav,x,tape\nb.wav,x,tape\nc.wav,y,u\nd.wav,y,v\n",
            "all recordings of x are of one group, tape: a class needs two and more",
        ),
    ],
)
def test_groups_that_cannot_be_kept_are_named(own: BenchmarkSpec, tmp_path: Path, text: str, words: str) -> None:
    assert words in line_of(own, table_of(tmp_path, text))


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
