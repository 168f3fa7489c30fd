"""`make reproduce`: the paper's numbers as printed, cells filled or explained, and no row from another experiment."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.model import EvaluatedModel
from evaluate.reproduce.experiments import Experiments, require_row
from evaluate.reproduce.paper import TABLES, Column, Row, Table
from evaluate.reproduce.run import run
from evaluate.reproduce.settings import ReproduceSettings
from pipeline.teachers.spec import TeacherSet
from shards.cli.command import compose
from shards.errors import UserError
from train.checkpoint.checkpoint import Checkpoint, load, save
from train.model.layers import StudentSpec
from train.settings import TrainSettings


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return Experiments.compose()


def test_numbers_are_those_that_the_paper_prints(shared: Path) -> None:
    """Each row's numbers stand together, in order, in one line of the paper's text."""
    lines = [
        re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?=%|\s|$)", line)
        for line in (shared / "reference" / "paper.txt").read_text().splitlines()
    ]
    for table in TABLES:
        for row in table.rows:
            numbers = [number for number in row.paper if number is not None]
            found = [[float(word) for word in line] for line in lines]
            assert any(line[-len(numbers) :] == numbers for line in found) or not numbers, (table.number, row.title)


def test_every_experiment_says_what_differs(experiments: Experiments) -> None:
    vgg = experiments.facts("soundnet8_vgg16")
    assert vgg["loss"] == "kl" and vgg["teachers"] == {"objects": "vgg16", "scenes": "vgg16"}
    assert experiments.facts("soundnet8_vgg16_l2") == {**vgg, "loss": "l2"}
    assert experiments.facts("soundnet8_vgg16_objects") == {**vgg, "teachers": {"objects": "vgg16"}}
    assert experiments.facts("soundnet8_vgg16_scenes") == {**vgg, "teachers": {"scenes": "vgg16"}}
    assert experiments.facts("soundnet8_alexnet")["teachers"] == {"objects": "alexnet", "scenes": "alexnet"}
    assert len(experiments.facts("soundnet5_vgg16")["layers"]) == 7
    assert experiments.settings["autoencoder"].student.kind == "autoencoder"
    for name, experiment in experiments.settings.items():
        assert experiment.run == Path("outputs/runs") / name


@pytest.fixture
def tiny_experiments(tiny: StudentSpec, esc_spec: BenchmarkSpec) -> Experiments:
    """One experiment: the tiny student with KL loss, whose teacher is a network called none."""
    experiment = replace(compose(TrainSettings, "train", ["shards=any"]), student=tiny, teacher_set="set")
    teachers = compose(TeacherSet, "teachers/alexnet")
    objects = teachers.heads["objects"]
    assert objects is not None
    teachers.heads = {"objects": replace(objects, architecture="none")}
    return Experiments({"esc10": esc_spec}, {"row": experiment}, {"set": teachers})


def trained(checkpoint: Path, **changes: object) -> Checkpoint:
    """As `make train` would have left it."""
    found = load(checkpoint)
    found.position = {"step": 200, "consumed": 12_800}
    found.config = {"loss": "kl", **changes}
    return found


@pytest.fixture
def settings(esc_root: Path, tiny: StudentSpec, tmp_path: Path) -> ReproduceSettings:
    return ReproduceSettings(
        tiny,
        compose(TeacherSet, "teachers/alexnet"),
        {"esc10": esc_root},
        runs=tmp_path / "runs",
        published=tmp_path / "nothing.pt",
        C=0.01,
        seeds=2,
        cache=tmp_path / "cache",
        out=tmp_path / "out",
    )


TABLE = Table(
    9,
    "A table",
    (Column("ESC-10", "esc10"),),
    (
        Row("quoted", (81.0,), "literature"),
        Row("ours", (92.2,), "experiment", "row", layer="conv2"),
        Row("theirs", (92.2,), "published", layer="conv2"),
        Row("untrained", (None,), "random", layer="conv2"),
        Row("hand-crafted", (67.5,), "mfcc"),
        Row("labels", (51.1,), "supervised", "tiny"),
    ),
)
SEEN = Table(10, "Another", (Column("sound", modality="sound"),), (Row("videos", (32.4,), "experiment", "row"),))


def cells(settings: ReproduceSettings) -> dict[str, dict[str, object]]:
    return {cell["row"]: cell for cell in json.loads((settings.out / "reproduce.json").read_bytes())["cells"]}


def test_cells_are_filled_or_say_what_is_missing(
    settings: ReproduceSettings, tiny_experiments: Experiments, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluate.reproduce.run.TABLES", (TABLE, SEEN))
    settings.tables = [9, 10]
    run(settings, tiny_experiments)
    found = cells(settings)
    assert found["quoted"]["paper"] == 0.81 and found["quoted"]["ours"] is None and not found["quoted"]["missing"]
    assert "a run of experiment row" in str(found["ours"]["missing"])
    assert found["ours"]["command"] == "make train experiment=row shards=..."
    assert found["theirs"]["command"] == "make published"
    assert "student=tiny" in str(found["labels"]["command"]) and "labelled videos" in str(found["videos"]["missing"])
    assert 0 < float(str(found["untrained"]["ours"])) <= 1 and "2 seeds" in str(found["untrained"]["note"])
    low, high = found["untrained"]["interval"]  # type: ignore[misc]
    assert 0 <= low <= float(str(found["untrained"]["ours"])) <= high <= 1 and low < high
    assert float(str(found["hand-crafted"]["ours"])) > 0.8 and "beside what [28] has" in str(
        found["hand-crafted"]["note"]
    )
    assert len(list((settings.cache / "scores").iterdir())) == 3  # mfcc, and each seed by itself: a stop loses one

    (settings.runs / "row").mkdir(parents=True)
    save(settings.runs / "row" / "best.pt", trained(checkpoint))
    run(settings, tiny_experiments)
    ours = cells(settings)["ours"]
    assert float(str(ours["ours"])) > 0.5 and ours["note"] == "12,800 clips in 200 steps, objects by none"
    page = (settings.out / "index.html").read_text()
    assert "12,800 clips in 200 steps" in page and "paper 92.2%" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # nothing is fetched from anywhere


def test_a_c_at_the_edge_of_the_grid_is_said_in_its_cell(
    settings: ReproduceSettings, tiny_experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluate.reproduce.run.TABLES", (TABLE,))
    settings.tables, settings.C, settings.grid = [9], None, [1e-9, 1e-8]
    run(settings, tiny_experiments)
    for row in ("untrained", "hand-crafted"):
        note = str(cells(settings)[row]["note"])
        assert "is at the grid's edge" in note and "fold 1, 2, 3: " in note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.config.update(loss="l2"), r'loss: .*best\.pt has "l2", this run "kl"'),
        (lambda found: found.teachers.update(scenes=found.teachers["objects"]), r'teachers: .*"scenes": "none"'),
        (
            lambda found: setattr(found, "spec", replace(found.spec, name="other")),
            r'student: .* has "other", this run "tiny"',
        ),
    ],
)
def test_a_run_of_other_settings_does_not_fill_a_row(
    change: object, words: str, tiny_experiments: Experiments, checkpoint: Path, tmp_path: Path
) -> None:
    model = EvaluatedModel.load(checkpoint)
    model = replace(model, checkpoint=trained(checkpoint), path=tmp_path / "best.pt")
    row = Row("ours", (), "experiment", "row")
    require_row(row, model, tiny_experiments)
    change(model.checkpoint)  # type: ignore[operator]
    with pytest.raises(UserError, match=words):
        require_row(row, model, tiny_experiments)


@pytest.mark.parametrize("wrong", [{"C": -1.0}, {"grid": []}, {"seeds": 0}, {"units": 0}])
def test_impossible_values_are_refused_before_anything_is_made(
    settings: ReproduceSettings, wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(settings, **wrong)  # type: ignore[arg-type]


def test_a_mistyped_benchmark_is_told_the_nearest(settings: ReproduceSettings) -> None:
    with pytest.raises(ValueError, match=r"^roots.esc5 is unknown: did you mean roots.esc50\?$"):
        replace(settings, roots={"esc10": Path("a"), "esc5": Path("b")})
    assert compose(ReproduceSettings, "reproduce", ["roots.esc50=/x"]).roots["esc50"] == Path("/x")
    with pytest.raises(ValueError, match=r"^roots.esc5 is unknown"):
        compose(ReproduceSettings, "reproduce", ["roots.esc5=/x"])


def test_a_table_has_a_number_for_every_column() -> None:
    with pytest.raises(ValueError, match="2 numbers, 1 columns"):
        Table(1, "", (Column("a"),), (Row("r", (1, 2), "literature"),))


def test_every_value_is_checked_before_the_first_table(
    settings: ReproduceSettings, tiny_experiments: Experiments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shards and videos that were named and are not there, and tables and figures that the paper does not have."""
    for changes, line in (
        ({"shards": tmp_path / "nowhere"}, "nowhere holds no manifest.json"),
        ({"videos": tmp_path / "nothing.csv"}, "nothing.csv does not exist"),
        ({"device": "gpu"}, "device=gpu is unknown"),
    ):
        with pytest.raises(UserError, match=line):
            run(replace(settings, **changes), tiny_experiments)  # type: ignore[arg-type]
        assert capsys.readouterr().out == ""
    for changes, line in (({"tables": [3, 9]}, "there is no 9"), ({"figures": [1]}, "there is no 1")):
        with pytest.raises(ValueError, match=line):
            replace(settings, **changes)  # type: ignore[arg-type]
