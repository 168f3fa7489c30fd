"""The command line: values arrive as typed, and everything a user can get wrong ends in one line and an exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from shards.cli.command import command, compose
from shards.cli.preemption import Preempted
from shards.cli.settings import SettingsError
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.media.rejects import UnreadableMedia


@dataclass(frozen=True)
class Network:
    architecture: str
    mean: tuple[float, ...]
    classes: str | None = None


@dataclass
class Networks:
    name: str
    heads: dict[str, Network | None]


@dataclass
class Dummy:
    videos: Path  # a folder of videos
    # the networks that look,
    # one a head
    teachers: Networks
    clip: ClipSpec = field(default_factory=ClipSpec)
    steps: int = 10
    rate: float = 1e-3
    loss: Literal["kl", "l2"] = "kl"  # the distance
    learn_from: list[str] | None = None
    note: str | None = None
    fast: bool = False


FILES = {
    "dummy.yaml": "defaults: [clip: paper, teachers: alexnet, _self_]\nvideos: ???\nsteps: 20\n",
    "clip/paper.yaml": "seconds: 20\nwindows: 4\n",
    "teachers/alexnet.yaml": "name: alexnet\nheads:\n  objects: {architecture: alexnet, mean: [1, 2.5]}\n"
    "  scenes: {architecture: alexnet, mean: [1, 2], classes: places.txt}\n",
    "teachers/vgg16.yaml": "defaults: [alexnet, _self_]\nname: vgg16\n",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    return tmp_path / "conf"


@pytest.fixture
def start(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Dummy]]:
    """Runs the command with these words in a folder of its own and gives the settings its jobs got."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def start(*words: str, run: Callable[[Dummy], None] = lambda settings: None, **how: Any) -> list[Dummy]:
        seen: list[Dummy] = []
        monkeypatch.setattr(sys, "argv", ["dummy", *words])
        command(Dummy, "dummy", lambda settings: (seen.append(settings), run(settings))[1], conf, **how)
        return seen

    return start


def stopped(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str], *words: str, **named: Any
) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        start(*words, **named)
    (line,) = capsys.readouterr().err.splitlines()
    return stop.value.code, line.removeprefix("error: ")


def test_settings_are_the_dataclass_with_its_types(start: Callable[..., list[Dummy]], tmp_path: Path) -> None:
    (got,) = start(
        "videos=/my/videos", "learn_from=[objects,scenes]", "clip.windows=2", "steps=1e3", "rate=1", "loss=l2"
    )
    heads = {
        "objects": Network("alexnet", (1.0, 2.5)),
        "scenes": Network("alexnet", (1.0, 2.0), "places.txt"),
    }
    assert got == Dummy(
        videos=Path("/my/videos"),
        teachers=Networks("alexnet", heads),
        clip=ClipSpec(windows=2),
        steps=1000,
        rate=1.0,
        loss="l2",
        learn_from=["objects", "scenes"],
    )
    assert isinstance(got.steps, int) and isinstance(got.rate, float)
    assert list((tmp_path / "work").iterdir()) == []  # Hydra leaves nothing in the user's folder


@pytest.mark.parametrize(
    "text",
    [
        "/my/a, b (x)",
        "a=b",
        "[a]",
        "{a:1}",
        "17",
        "1e3",
        "a b#c$d;e",
        "${x}",
        "a\\${x}\\$${y",
        "it's",
        'say "x"',
        "a\\b\\",
        "x,y",
        "null ",
        "~a",
    ],
)
def test_text_arrives_letter_by_letter(start: Callable[..., list[Dummy]], text: str) -> None:
    (got,) = start(f"videos={text}", f"note={text}")
    assert got.note == text and str(got.videos) == text


def test_other_values_keep_their_meaning(start: Callable[..., list[Dummy]]) -> None:
    (got,) = start("videos='quoted, already'", "note=null", "teachers=vgg16", "teachers.heads.scenes=null", "fast=true")
    assert got.videos == Path("quoted, already") and got.note is None and got.fast is True
    assert got.teachers.name == "vgg16" and got.teachers.heads["scenes"] is None
    assert start("videos=a", "clip={windows: 2, seconds: 10}")[0].clip == ClipSpec(seconds=10, windows=2)
    assert (
        start("videos=a", "+teachers.heads.sounds={architecture: x, mean: [1]}")[0].teachers.heads["sounds"] is not None
    )


def test_a_sweep_runs_every_combination(start: Callable[..., list[Dummy]], tmp_path: Path) -> None:
    got = start("videos=a b", "--multirun", "clip.windows=2,4", "teachers=alexnet,vgg16")
    assert len(got) == 4 == len({(job.clip.windows, job.teachers.name) for job in got})
    assert {job.videos for job in got} == {Path("a b")}
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["outputs"]


def test_a_stage_may_compose_other_settings(start: Callable[..., list[Dummy]], conf: Path) -> None:
    names: list[str] = []
    got = start(
        "videos=a", "-m", "steps=1,2", run=lambda _: names.append(compose(Networks, "teachers/vgg16", [], conf).name)
    )
    assert [job.steps for job in got] == [1, 2] and names == ["vgg16", "vgg16"]


def test_a_sweep_goes_on_after_a_job_that_fails(
    start: Callable[..., list[Dummy]], capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[int] = []

    def run(settings: Dummy) -> None:
        ran.append(settings.steps)
        if settings.steps == 2:
            raise UserError("no disk")

    with pytest.raises(SystemExit) as stop:
        start("videos=a", "-m", "steps=1,2,3", run=run)
    assert stop.value.code == 1 and ran == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "job 0: videos='a' steps=1",
        "job 1: videos='a' steps=2",
        "error: no disk",
        "job 2: videos='a' steps=3",
    ]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["clip.windows=2,4,0"], 1, "a clip needs"),
        (["loss=kl,l2,l3"], 2, "loss=l3 does not fit"),
        (["steps=1,2,abc"], 2, "steps=abc does not fit"),
        (["teachers=alexnet,vgg"], 2, "teachers=vgg is unknown: did you mean vgg16?"),
        (["note=none,all,x"], 1, "note=x is none of the heads"),
    ],
)
def test_all_jobs_of_a_sweep_are_checked_before_the_first_one_starts(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str], words: list[str], code: int, line: str
) -> None:
    ran: list[Dummy] = []

    def check(settings: Dummy) -> None:
        if settings.note == "x":
            raise UserError("note=x is none of the heads")

    found = stopped(start, capsys, "videos=a", "-m", *words, run=ran.append, check=check)
    assert found[0] == code and found[1].startswith(line) and ran == []
    if "teachers" not in words[0]:  # which Hydra refuses
        assert " (job 2: videos='a' " in found[1] and found[1].endswith("; no job was started)")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lern_from=[a]"], "lern_from is unknown: did you mean learn_from?"),
        (["+stebs=3"], "stebs is unknown: did you mean steps?"),
        (["clip.window=2"], "clip.window is unknown: did you mean clip.windows?"),
        (["zzz=1"], "zzz is unknown: there are videos, teachers, clip,"),
        (["learn_from.x=1"], "learn_from.x is unknown: learn_from is a list [...] with text each, as learn_from=[...]"),
        (["learn_from.0=a"], "learn_from has no entry 0 to change: give learn_from=[...] as a whole"),
        (["teachers.heads.objects.mean.7=1"], "teachers.heads.objects.mean has no entry 7 to change: give"),
        (["~note"], "~note takes nothing away"),
        (["steps.more=1"], "steps.more is unknown: steps is a single value"),
        (["teachers=vgg"], "teachers=vgg is unknown: did you mean vgg16?"),
        (["teachers.heads.scens=null"], "teachers.heads.scens is unknown: did you mean teachers.heads.scenes? (+"),
        (["+teachers.heads.sounds={architecture: x}"], "teachers.heads.sounds.mean is not given"),
        (["+teachers.heads.sounds={architektur: x}"], "did you mean teachers.heads.sounds.architecture?"),
        (["steps=abc"], "steps=abc does not fit: steps is a whole number"),
        (["steps=1.5"], "steps=1.5 does not fit: steps is a whole number"),
        (["rate=true"], "rate=true does not fit: rate is a number"),
        (["fast=1"], "fast=1 does not fit: fast is true or false"),
        (["loss=l3"], "loss=l3 does not fit: loss is one of kl, l2"),
        (["learn_from=objects"], "learn_from=objects does not fit: learn_from is a list"),
        (["learn_from=[1.5]"], "learn_from[0]=1.5 does not fit: learn_from[0] is text"),
        (["videos="], "videos= does not fit: videos is a path"),
        (["steps=null"], "steps=null does not fit"),
        (["steps=1,2"], "steps=1,2 gives several values, which only a sweep takes"),
        (["teachers=alexnet,vgg16"], "teachers=alexnet,vgg16 gives several values"),
        (["learn_from=[a"], "learn_from=[a cannot be read"),
        (["/my/videos"], "/my/videos is no setting: settings are key=value, as videos=/my/videos"),
        (["--steps=3"], "--steps=3 is no setting: leave out the dashes, steps=3"),
        (["--steps", "3"], "--steps is no option: there are --help and --multirun, and settings are key=value"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    code, error = stopped(start, capsys, "videos=a", *words)
    assert code == 2 and line in error


def test_a_value_not_given_is_asked_for_with_an_example(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = stopped(start, capsys)
    assert code == 2 and "videos is not given: say videos=..." in line and "for example videos=/path/to/videos" in line


def test_settings_that_do_not_go_together_are_one_line(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = stopped(start, capsys, "videos=a", "clip.windows=7", "clip.seconds=1.0001")
    assert code == 1 and "change clip.seconds or clip.windows" in line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a has 3, b has 4: make b again"), 1, "a has 3, b has 4: make b again"),
        (UnreadableMedia("empty", "zero bytes"), 1, "empty: zero bytes"),
        (
            OSError(28, "No space left on device", "/x/y.tar.partial"),
            1,
            "/x/y.tar.partial: No space left on device. Make room, and run the same command again",
        ),
        (
            IsADirectoryError(21, "Is a directory", "/x.partial", None, "/x"),
            1,
            "/x: Is a directory, and a file is needed. Give another path",
        ),
        (FileExistsError(17, "File exists", "/x"), 1, "/x: File exists, and is no folder. Give another path"),
    ],
)
def test_what_a_stage_refuses_is_one_line(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def run(settings: Dummy) -> None:
        raise error

    assert stopped(start, capsys, "videos=a", run=run) == (code, line)


@pytest.mark.parametrize(
    ("error", "code", "said"), [(KeyboardInterrupt(), 130, "interrupted"), (Preempted(), 75, "stopped by SIGTERM")]
)
@pytest.mark.parametrize("sweep", [[], ["-m", "steps=1,2"]], ids=["run", "sweep"])
def test_what_can_go_on_says_so_when_it_is_stopped(
    start: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
    sweep: list[str],
) -> None:
    def run(settings: Dummy) -> None:
        raise error

    for resumable, more in ((True, ": the same command goes on from what is finished"), (False, "")):
        with pytest.raises(SystemExit) as stop:
            start("videos=a", *sweep, run=run, resumable=resumable)
        assert (stop.value.code, capsys.readouterr().err.splitlines()[-1]) == (code, f"error: {said}{more}")


def test_a_fault_of_the_program_keeps_its_traceback(start: Callable[..., Any]) -> None:
    def run(settings: Dummy) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        start("videos=a", run=run)


def test_help_names_keys_defaults_and_choices(start: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--help") == []
    shown = capsys.readouterr().out
    rows = {line.split("=")[0].strip(): line for line in shown.splitlines() if line.startswith("  ")}
    assert rows["teachers"].endswith("  the networks that look, one a head: alexnet, vgg16")
    assert "a folder of videos (required)" in rows["videos"]
    assert (
        "steps=20" in rows["steps"]
        and "clip.windows=4" in rows["clip.windows"]
        and rows["loss"].endswith("  the distance (one of kl, l2)")
    )
    assert len(shown.splitlines()) < 30


def test_compose_gives_settings_or_one_file_of_a_group(conf: Path) -> None:
    assert compose(Dummy, "dummy", ["videos=a, b"], conf).videos == Path("a, b")
    assert compose(Networks, "teachers/vgg16", conf=conf).name == "vgg16"
    with pytest.raises(SettingsError, match="videos is not given"):
        compose(Dummy, "dummy", conf=conf)


def test_importing_the_command_line_is_light() -> None:
    heavy = {"hydra", "omegaconf", "torch", "av", "numpy"}
    probe = f"import sys, shards.cli.command; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"
