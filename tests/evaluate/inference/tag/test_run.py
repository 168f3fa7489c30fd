"""`make tag`: real files in, names out; what lifts are over; what cannot be read is named and stops nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evaluate.inference.tag.run import TagSettings, run
from shards.errors import UserError
from shards.format.manifest import TeacherCard
from tests.forked import ROOT
from train.checkpoint.checkpoint import Checkpoint, load, save
from train.model.student import Student

MEAN = torch.tensor([0.2, 0.3, 0.5])
Tag = Callable[..., list[dict[str, str]]]


@pytest.fixture
def with_mean(checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny student with the mean of its training."""
    path = tmp_path / "with_mean.pt"
    save(path, replace(load(checkpoint), training_mean={"objects": MEAN}))
    return path


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    """Two sounds of 2 and 5 s, the second at another rate in two channels."""
    generator = np.random.default_rng(0)
    (tmp_path / "sounds").mkdir()
    paths = [tmp_path / "sounds" / "a=1, [b].wav", tmp_path / "sounds" / "c.flac"]
    soundfile.write(paths[0], generator.uniform(-0.3, 0.3, 16_000), 8_000)
    soundfile.write(paths[1], generator.uniform(-0.3, 0.3, (60_000, 2)), 12_000)
    return paths


@pytest.fixture
def tag(tmp_path: Path) -> Tag:
    """Runs with these settings; the rows of its CSV file."""

    def tagged(files: list[Path], checkpoint: Path, **settings: object) -> list[dict[str, str]]:
        out = tmp_path / "out" / "tags.csv"
        run(TagSettings(files, checkpoint, out=out, **settings))  # type: ignore[arg-type]
        with open(out, newline="") as stream:
            return list(csv.DictReader(stream))

    return tagged


def test_lift_is_over_the_training_mean_where_the_checkpoint_has_one(
    with_mean: Path, sounds: list[Path], tag: Tag
) -> None:
    rows = tag(sounds, with_mean, top=3)
    assert {row["lift_over"] for row in rows} == {"the mean over the checkpoint's training set"}
    assert {row["file"] for row in rows} == set(map(str, sounds)) and {row["head"] for row in rows} == {"objects"}
    for row in rows:
        assert float(row["lift"]) == pytest.approx(
            float(row["posterior"]) / MEAN["abc".index(row["name"])].item(), abs=2e-3
        )
    ends = [float(row["end"]) for row in rows if row["span"] == "part" and row["file"] == str(sounds[1])]
    assert ends == sorted(ends) and ends[-1] == 5.0 and len(set(ends)) > 60


def test_without_one_it_is_over_the_files_or_over_others(checkpoint: Path, sounds: list[Path], tag: Tag) -> None:
    rows = tag(sounds, checkpoint, top=3, over_time=False)
    assert {row["lift_over"] for row in rows} == {"the mean over what was given (2 sounds)"}
    assert {row["span"] for row in rows} == {"whole"}
    own = tag(sounds[:1], checkpoint, base=sounds[:1], over_time=False)
    assert {row["lift"] for row in own} == {"1.0"} and {row["lift_over"] for row in own} == {
        f"the mean over base={sounds[0]} (1 sound)"
    }
    (first,) = [row for row in own if row["rank"] == "1"]
    assert float(first["posterior"]) == max(float(row["posterior"]) for row in own)


def test_other_heads_and_names_come_from_the_checkpoint(checkpoint: Path, sounds: list[Path], tmp_path: Path) -> None:
    """A fine-tuned student: its own classes under a name of their own, one answer to half a second."""
    learned = load(checkpoint)
    clip = replace(learned.clip, seconds=0.5)
    steps = learned.spec.steps(clip.samples, "conv2")
    spec = replace(learned.spec, output=replace(learned.spec.output, kernel=steps, stride=1))
    student = Student(spec, {"my own": 2}, sample_rate=8_000)
    card = TeacherCard("labels", "none", "", {}, ("door", "bell"))
    path = tmp_path / "tuned.pt"
    save(path, Checkpoint(spec, clip, {"my own": card}, student.state_dict()))
    run(TagSettings(sounds, path, out=tmp_path / "tags.json"))
    first, _ = json.loads((tmp_path / "tags.json").read_text())["files"]
    assert [(part["begin"], part["end"]) for part in first["parts"]] == [(0, 0.5), (0.5, 1), (1, 1.5), (1.5, 2)]
    assert {tag["name"] for part in first["parts"] for tag in part["tags"]["my own"]} <= {"door", "bell"}


def test_what_cannot_be_read_is_named_and_the_rest_is_tagged(
    with_mean: Path, sounds: list[Path], tag: Tag, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "sounds" / "cut.wav"
    cut.write_bytes(sounds[0].read_bytes()[:9_000])
    (tmp_path / "sounds" / "page.wav").write_text("<html>")
    with pytest.raises(UserError, match="1 of 4 files could not be read"):
        tag([tmp_path / "sounds"], with_mean)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{cut}: cut short: its header promises") and "not_media" in second
    with open(tmp_path / "out" / "tags.csv", newline="") as stream:
        assert {row["file"] for row in csv.DictReader(stream)} == {str(cut), *map(str, sounds)}


def test_the_table_goes_to_the_screen_and_the_picture_to_a_file(
    with_mean: Path, sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TagSettings(sounds[:1], with_mean, timeline=tmp_path / "new" / "a.png"))
    assert str(sounds[0]) in capsys.readouterr().out
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="shows one sound, 2 are given"):
        run(TagSettings(sounds, with_mean, timeline=tmp_path / "a.png"))


def test_a_name_that_is_no_text_is_written_as_it_is(
    with_mean: Path, sounds: list[Path], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    odd = tmp_path / "\udcff.wav"
    sounds[0].rename(odd)
    for form in ("csv", "json", "table"):
        run(TagSettings([odd], with_mean, over_time=False, format=form))  # type: ignore[arg-type]
    out = capfdbinary.readouterr().out
    assert b"/\xff.wav,whole" in out and b"/\\udcff.wav" in out and b"/?.wav" in out


def test_the_format_follows_the_name_of_the_file() -> None:
    def chosen(out: str | None, form: str | None = None) -> str | None:
        return TagSettings([Path("a")], Path("b"), out=out and Path(out), format=form).format  # type: ignore[arg-type]

    assert [chosen(None), chosen("a.json"), chosen("a.CSV"), chosen("a.txt")] == ["table", "json", "csv", "table"]
    assert chosen("a.json", "csv") == "csv"
    with pytest.raises(ValueError, match="top is at least 1"):
        TagSettings([Path("a")], Path("b"), top=0)


@pytest.mark.faults
def test_a_drawing_library_is_imported_for_a_picture_alone(
    checkpoint: Path, sounds: list[Path], tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from evaluate.inference.embed.run import EmbedSettings, run as embed\n"
        "from evaluate.inference.tag.run import TagSettings, run as tag\n"
        "checkpoint, out, *sounds = map(Path, sys.argv[1:])\n"
        "embed(EmbedSettings(sounds, checkpoint, out / 'all.npz', layer='conv2'))\n"
        "tag(TagSettings(sounds, checkpoint, out=out / 'tags.json'))\n"
        "heavy = {'matplotlib', 'tensorboard', 'torchvision', 'sklearn', 'scipy', 'torch._dynamo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, checkpoint, tmp_path, *sounds], check=True, cwd=ROOT)
    assert json.loads((tmp_path / "tags.json").read_text())["files"]
