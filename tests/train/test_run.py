"""Whole runs on tiny shards: they learn, say what they measured, and refuse to become another run."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.cli.command import command
from shards.errors import UserError
from shards.loader.catalog import load_catalog
from shards.loader.keep import Keep
from shards.loader.order import sample
from shards.loader.streaming import Streaming
from tests.faults.commands import finish, one_line, training
from tests.forked import Forked
from tests.train.conftest import CLIPS, rows, write_tones
from train.checkpoint import hub
from train.checkpoint.checkpoint import load, load_network, load_student
from train.checkpoint.export import ExportSettings
from train.checkpoint.export import run as run_export
from train.model.layers import Layer, StudentSpec
from train.run import Sweep, run
from train.runfolder import RunFolder
from train.settings import TrainSettings

MakeShards = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_student_learns_and_its_checkpoint_describes_itself(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with curves
    settings = replace(settings, steps=120, validate_every=40)
    run(settings)
    assert settings.run is not None
    found = json.loads((settings.run / "validation.json").read_text())
    assert (found["step"], found["clips"], len(found["videos"])) == (120, 7, 1)
    for head in ("objects", "scenes"):
        mean = found["mean"]
        assert mean[f"{head}/kl"] < 0.5 * min(mean[f"{head}/kl_mean"], mean[f"{head}/kl_uniform"])
    for name in ("last.pt", "best.pt"):
        student, checkpoint = load_student(settings.run / name)
        catalog = load_catalog(settings.shards, "train")
        assert checkpoint.spec == settings.student and checkpoint.clip == catalog.clip
        assert checkpoint.teachers == catalog.cards and list(student.heads) == ["objects", "scenes"]
        assert checkpoint.training_mean is not None
        for head, mean_posterior in catalog.mean_posterior.items():
            torch.testing.assert_close(checkpoint.training_mean[head].double(), torch.from_numpy(mean_posterior))
        assert checkpoint.config["lr"] == 1e-3 and checkpoint.position is not None
    assert load(settings.run / "last.pt").position == {"step": 120, "consumed": 960, "seed": 0}
    losses = [row["loss"] for row in rows(settings.run) if "loss" in row]
    assert len(losses) == 25 and losses[-1] < 0.5 * losses[0]
    assert (settings.run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(settings.run.glob("events.out.tfevents.*"))


def test_another_spec_is_refused_with_both_sides_and_more_steps_are_not(
    settings: TrainSettings, tmp_path: Path, make_shards: MakeShards
) -> None:
    run(settings)
    assert settings.run is not None
    before = (settings.run / "last.pt").read_bytes()
    other = make_shards(tmp_path / "other", {"train-000000": 20}, seed=9)
    narrow = replace(
        settings.student, layers=[replace(settings.student.layers[0], kernel=12), *settings.student.layers[1:]]
    )
    for change, message in {
        "lr": ({"lr": 0.5}, r"lr: .*run has 0\.001, this run 0\.5"),
        "loss": ({"loss": "l2"}, 'loss: .*run has "kl", this run "l2"'),
        "batch": ({"batch": 4}, "batch: .*run has 8, this run 4"),
        "seed": ({"seed": 1}, "seed: .*run has 0, this run 1"),
        "heads": ({"learn_from": ["scenes"]}, r'learn_from: .*run has \["objects", "scenes"\], this run \["scenes"\]'),
        "student": ({"student": narrow}, r"student\.conv1: .*kernel=16.*kernel=12"),
        "shards": ({"shards": str(other)}, r"shards \(hash of their contents\)"),
    }.values():
        with pytest.raises(UserError, match=message) as refused:
            run(replace(settings, **change))
        assert "run=another/folder" in str(refused.value)
    with pytest.raises(UserError, match="holds a run already: resume=auto"):
        run(replace(settings, resume="never"))
    run(settings)
    assert (settings.run / "last.pt").read_bytes() == before, "all steps are done"
    run(replace(settings, steps=23))
    assert load(settings.run / "last.pt").position == {"step": 23, "consumed": 184, "seed": 0}


def test_only_kept_clips_are_learned_from_and_validated_on(
    settings: TrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings.run is not None
    for name, count in {"train-000000": 20, "train-000001": 15, "validation-000000": 7}.items():
        path = Path(settings.shards) / f"{name}.json"
        given = [{"class": ("dog", "cat", "cow")[index % 3]} for index in range(count)]
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"given": given}))
    kept = replace(settings, keep=Keep(given={"class": ["dog", "cat"]}))
    run(kept)
    line = "keep given.class=['cat', 'dog']: 11 of 35 train clips left out, 2 of 7 validation clips left out"
    assert capsys.readouterr().err.count(line) == 1
    found = json.loads((settings.run / "validation.json").read_text())
    assert found["clips"] == 5
    checkpoint = load(settings.run / "last.pt")
    assert checkpoint.config["keep"]["given"] == {"class": ["dog", "cat"]} and checkpoint.training_mean is not None
    mean = load_catalog(settings.shards, "train", keep=kept.keep).mean_posterior["objects"]
    torch.testing.assert_close(checkpoint.training_mean["objects"].double(), torch.from_numpy(mean))
    assert json.loads((settings.run / "run.json").read_text())["keep.given.class"] == ["cat", "dog"]
    run(replace(kept, steps=23, keep=Keep(given={"class": ["cat", "dog"]})))
    for other in (Keep(), Keep(given={"class": ["dog"]}), Keep(min_peak_db=-90, given={"class": ["dog", "cat"]})):
        with pytest.raises(UserError, match=r"keep\.\S+: \S+ has .*, this run .*run=another/folder"):
            run(replace(kept, keep=other))


def test_where_no_clip_is_kept_the_run_stops_before_it_begins(settings: TrainSettings) -> None:
    assert settings.run is not None
    with pytest.raises(UserError, match=r"keep leaves out all 35 clips of \S+ to train on: given\.class=\['dog'\]"):
        run(replace(settings, keep=Keep(given={"class": ["dog"]})))
    assert not settings.run.exists()


def test_a_part_is_measured_as_training_goes_on_and_all_at_the_end(settings: TrainSettings) -> None:
    settings = replace(settings, validate_clips=3, validate_every=10, steps=20)
    run(replace(settings, steps=15))
    assert settings.run is not None
    part = load_catalog(settings.shards, "validation").part(sample(7, 3))
    found = json.loads((settings.run / "validation.json").read_text())
    assert (found["step"], found["clips"]) == (15, 7)
    before = load(settings.run / "last.pt").best
    run(settings)
    rows_of = [row for row in rows(settings.run) if "validation" in row]
    assert [row["step"] for row in rows_of] == [0, 10, 15, 20] and len(part.keys) == 3
    # The best is the best of those three clips, of which the last validation has measures too.
    network, checkpoint = load_student(settings.run / "last.pt")
    after = checkpoint.best
    assert before is not None and after is not None and after <= before
    assert abs(after - sum(rows_of[-1]["validation"][f"{head}/kl"] for head in network.heads)) > 1e-6


def test_what_is_kept_apart_is_the_network_after_those_steps(settings: TrainSettings, tmp_path: Path) -> None:
    run(replace(settings, keep_every=8, validate_every=0))
    run(replace(settings, run=tmp_path / "short", steps=8, validate_every=0))
    assert settings.run is not None
    kept = sorted(path.name for path in settings.run.glob("step-*.pt"))
    assert kept == ["step-0000008.pt", "step-0000016.pt", "step-0000020.pt"]
    short, apart = load(tmp_path / "short/last.pt"), load(settings.run / kept[0])
    assert apart.optimizer is None and apart.network.keys() == short.network.keys()
    assert all(torch.equal(apart.network[name], tensor) for name, tensor in short.network.items())


def test_a_run_may_begin_from_another_checkpoint_and_keeps_the_heads_that_fit(
    settings: TrainSettings,
    tmp_path: Path,
    make_shards: MakeShards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(settings)
    assert settings.run is not None
    before = load(settings.run / "best.pt")
    other = make_shards(tmp_path / "other", CLIPS, heads={"objects": 7, "scenes": 9})
    begun = replace(
        settings, shards=str(other), run=tmp_path / "begun", init=settings.run / "best.pt", steps=1, lr=1e-9
    )
    run(begun)
    assert "of its heads objects" in capsys.readouterr().err
    after = load(tmp_path / "begun/last.pt")
    for name, tensor in before.network.items():
        if "running" in name or "num_batches" in name or name.startswith("heads.scenes"):
            continue
        torch.testing.assert_close(after.network[name], tensor, rtol=0, atol=1e-6)
    assert after.network["heads.scenes.weight"].shape[0] == 9
    run_export(ExportSettings(settings.run / "best.pt", "hub", tmp_path / "on the hub"))
    monkeypatch.setattr(hub, "_fetched", lambda name, revision: tmp_path / "on the hub")
    run(replace(begun, run=tmp_path / "named", init=Path("anybody/net@v1")))
    named = load(tmp_path / "named/last.pt").network
    assert all(torch.equal(named[name], tensor) for name, tensor in after.network.items())
    narrow = replace(settings.student, output=replace(settings.student.output, kernel=5))
    wide = replace(settings.student, layers=[*settings.student.layers[:2], Layer("conv2", 8, 4, 4, 16)])
    for student, named in ((narrow, "heads.objects.weight"), (wide, "blocks.conv2.conv.weight")):
        with pytest.raises(UserError, match=rf"{named}: \S+best\.pt has .*, this run .*a student of the same layers"):
            run(replace(begun, run=tmp_path / named, student=student))


def test_a_batch_in_parts_is_the_same_clips(settings: TrainSettings) -> None:
    run(replace(settings, accumulate=4, schedule="cosine", warmup=3, clip_norm=1.0))
    assert settings.run is not None
    assert load(settings.run / "last.pt").position == {"step": 20, "consumed": 160, "seed": 0}
    with pytest.raises(UserError, match=r"steps: .*run has 20, this run 40"):
        run(replace(settings, accumulate=4, schedule="cosine", warmup=3, clip_norm=1.0, steps=40))


def test_a_trace_of_a_few_steps_is_written_where_it_is_asked_for(
    settings: TrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    run(replace(settings, profile=True, steps=6))
    assert "no trace.json: it takes 9 steps, and there were fewer" in capsys.readouterr().err
    assert settings.run is not None and not (settings.run / "trace.json").exists()
    run(replace(settings, profile=True, steps=16))
    events = json.loads((settings.run / "trace.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if str(event.get("name", "")).startswith("ProfilerStep")}
    assert len(steps) == 3 and any("conv" in str(event.get("name")) for event in events)


def test_what_a_cpu_cannot_do_together_is_refused(settings: TrainSettings) -> None:
    with pytest.raises(ValueError, match="sync_batch_norm=true is for device=cuda"):
        replace(settings, sync_batch_norm=True)


SWEPT = {
    "init": ("init=null,{tmp}/missing.pt", r"there is no checkpoint \S+missing\.pt"),
    "init of other layers": ("init={tmp}/other/best.pt,null", r"heads\.objects\.weight: \S+best\.pt has .*same layers"),
    "a folder begun otherwise": ("run={tmp}/new,{tmp}/other", r"student\.conv3: \S+other has .*run=another/folder"),
    "a folder without last.pt": ("run={tmp}/new,{tmp}/lost", r"lost holds best\.pt, .*, but no last\.pt to go on from"),
    "a damaged last.pt": ("run={tmp}/new,{tmp}/damaged", r"damaged/last\.pt is not a checkpoint of this program"),
    "one folder for two": (
        "run={tmp}/new lr=0.1,0.2",
        r"lr: an earlier job in \S+new has 0\.1, this job 0\.2\. Leave out run=",
    ),
    "resume=never twice": (
        "run={tmp}/new resume=never steps=1,2",
        r"two jobs have the folder \S+new, which resume=never forbids",
    ),
    "what webdataset cannot do": ("streaming.reader=direct,webdataset keep.min_peak_db=-11.2", r"leave out keep"),
    "a CPU without bfloat16": ("precision=float32,bf16", r"precision=bf16, but this CPU has no instructions"),
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and run folders: of another student, and with a last.pt that is gone or damaged."""
    tmp = tmp_path_factory.mktemp("swept")
    write_tones(tmp / "shards", CLIPS)
    wider = {"steps": 1, "student.output.kernel": 5, "student.output.stride": 3}
    finish(Forked("train", *training(tmp / "shards", tmp / "other", **wider)))
    finish(Forked("train", *training(tmp / "shards", tmp / "lost", steps=1)))
    shutil.copytree(tmp / "lost", tmp / "damaged")
    (tmp / "lost" / "last.pt").unlink()
    (tmp / "damaged" / "last.pt").write_bytes(b"no checkpoint")
    return tmp


@pytest.mark.parametrize(("words", "said"), SWEPT.values(), ids=SWEPT)
def test_what_would_stop_a_later_job_stops_a_sweep_before_its_first(
    swept: Path, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.device.device.cpu_has_bfloat16", lambda: False)
    monkeypatch.chdir(tmp_path)
    varied = words.format(tmp=swept).split()
    given = dict(word.split("=", 1) for word in training(swept / "shards", tmp_path, steps=1) if "run=" not in word)
    given |= dict(word.split("=", 1) for word in varied)
    monkeypatch.setattr("sys.argv", ["train", "--multirun", *(f"{key}={value}" for key, value in given.items())])
    before = sorted(swept.rglob("*"))
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        command(TrainSettings, "train", run, resumable=True, check=Sweep().check)
    assert ended.value.code == 1 and re.search(said, one_line(errors.getvalue()))
    assert re.search(r" \(job [01]: .*; no job was started\)$", errors.getvalue().strip())
    assert sorted(swept.rglob("*")) == before and not list(tmp_path.glob("outputs/runs"))


def test_never_means_never(settings: TrainSettings) -> None:
    run(replace(settings, validate_every=0, save_every=0))
    assert settings.run is not None
    assert not list(settings.run.glob("*.pt")) and not (settings.run / "validation.json").exists()
    assert [row["step"] for row in rows(settings.run)] == [1, 5, 10, 15, 20]


def test_a_folder_has_one_run_at_a_time(settings: TrainSettings) -> None:
    assert settings.run is not None
    with RunFolder(settings.run).exclusive(), pytest.raises(UserError, match="another run is writing into"):
        run(settings)


def test_each_teacher_alone_and_both(settings: TrainSettings, tmp_path: Path) -> None:
    for heads in (["objects"], ["scenes"], ["scenes", "objects"]):
        one = replace(settings, learn_from=heads, run=tmp_path / "-".join(heads), steps=10)
        run(one)
        assert one.run is not None
        student, checkpoint = load_student(one.run / "last.pt")
        assert list(student.heads) == list(checkpoint.teachers) == sorted(heads)
        assert {name.partition("/")[0] for name in rows(one.run)[-1]["validation"]} == set(heads)


@pytest.mark.parametrize("loss", ["l2", "torch7"])
def test_the_other_losses_train_too(settings: TrainSettings, loss: Any) -> None:
    run(replace(settings, loss=loss, steps=60, validate_every=60))
    losses = [row["loss"] for row in rows(settings.run) if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]


def test_the_stock_reader_fills_the_same_batches(settings: TrainSettings) -> None:
    run(replace(settings, streaming=Streaming(reader="webdataset"), steps=60, validate_every=60))
    last = rows(settings.run)[-1]["validation"]
    assert last["objects/kl"] < last["objects/kl_mean"]
    with pytest.raises(UserError, match=r'reader: .*run has "webdataset", this run "direct"'):
        run(settings)


def test_what_webdataset_alone_can_read_is_validated_on(settings: TrainSettings, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    for tar in Path(settings.shards).glob("*.tar"):
        tar.rename(tars / tar.name)
    urls = f"pipe:cat {tars}/train-{{000000..000001}}.tar"
    held_out = f"pipe:cat {tars}/validation-000000.tar"
    run(replace(settings, streaming=Streaming(reader="webdataset", urls=urls, validation_urls=held_out), steps=5))
    assert settings.run is not None
    assert json.loads((settings.run / "validation.json").read_text())["clips"] == 7
    short = Streaming(reader="webdataset", urls=urls, validation_urls=f"pipe:cat {tars}/train-000000.tar")
    with pytest.raises(UserError, match="none of the 7 held-out clips was read"):
        run(replace(settings, streaming=short, steps=6))


def test_an_autoencoder_learns_from_the_same_shards(
    settings: TrainSettings, tmp_path: Path, make_shards: MakeShards
) -> None:
    """Tones of 20 to 60 Hz, soft enough for Adam to reach in a few steps: held-out clips are rebuilt."""
    tones = make_shards(tmp_path / "tones", CLIPS, loud=400.0, spacing_hertz=10)
    layers = [Layer("conv1", 16, 2, 8, 32), Layer("pool1", 2, 2), Layer("conv2", 8, 2, 4, 32)]
    layers += [Layer("conv3", 4, 2, 2, 32), Layer("conv4", 4, 2, 2, 16)]
    spec = StudentSpec("small", layers, Layer("conv5", 2, 1), kind="autoencoder")
    run(replace(settings, shards=str(tones), student=spec, steps=80, validate_every=80, lr=3e-3))
    assert settings.run is not None
    network, checkpoint = load_network(settings.run / "best.pt")
    assert checkpoint.teachers == {} and checkpoint.training_mean is None
    assert network.features(torch.zeros(1, 2000), ["conv4"])["conv4"].shape[1] == 16
    last = rows(settings.run)[-1]["validation"]
    assert last["mse"] < last["mse_silence"] / 3 and set(last) == {"mse", "mse_silence"}


def test_a_loss_without_bounds_stops_the_run_before_anything_is_saved(settings: TrainSettings) -> None:
    run(settings)
    assert settings.run is not None
    checkpoint = torch.load(settings.run / "last.pt", weights_only=True)
    checkpoint["network"]["heads.objects.bias"][0] = float("nan")
    torch.save(checkpoint, settings.run / "last.pt")
    before = (settings.run / "last.pt").read_bytes(), (settings.run / "best.pt").read_bytes()
    with pytest.raises(UserError, match="step 21: the loss or its gradient is not finite"):
        run(replace(settings, steps=100))
    assert ((settings.run / "last.pt").read_bytes(), (settings.run / "best.pt").read_bytes()) == before


def test_without_a_validation_split_one_line_says_so(
    settings: TrainSettings,
    tmp_path: Path,
    make_shards: MakeShards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()  # with curves
    alone = make_shards(tmp_path / "alone", {"train-000000": 9})
    run(replace(settings, shards=str(alone)))
    assert settings.run is not None
    logged = capsys.readouterr().err
    assert logged.count("training without validation") == 1 and "top-1" not in logged
    assert (settings.run / "last.pt").exists() and not (settings.run / "best.pt").exists()
    assert (settings.run / "curves.png").exists()


def test_one_line_says_what_to_do_without_a_gpu(settings: TrainSettings) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    errors = finish(Forked("train", f"shards={settings.shards}"), code=1)
    assert errors.count("\n") == 1 and "device=cpu" in errors


def test_clips_that_do_not_fit_the_student_are_refused_before_training(settings: TrainSettings) -> None:
    wide = replace(settings.student, output=Layer("conv3", 6, 4))
    with pytest.raises(UserError, match=r"4 label windows in 2 s, but 3 output steps of tiny"):
        run(replace(settings, student=wide))
    assert settings.run is not None and not settings.run.exists()


def test_a_compiler_that_does_not_work_costs_one_line(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> Callable[[Sequence[float]], None]:
        def function(_: object) -> None:
            raise RuntimeError("no C++ compiler\nand much more")

        return function

    monkeypatch.setattr(torch, "compile", broken)
    run(replace(settings, compile="auto", steps=3))
    assert capsys.readouterr().err.count("without torch.compile, it does not work here: no C++ compiler\n") == 1
    with pytest.raises(UserError, match="compile=true, but the compiler does not work: no C"):
        run(replace(settings, compile=True, steps=5))


@pytest.mark.gpu
def test_a_gpu_learns_the_same(settings: TrainSettings) -> None:
    run(replace(settings, device="cuda", compile="auto", steps=120))
    last = rows(settings.run)[-1]["validation"]
    assert last["objects/kl"] < 0.5 * min(last["objects/kl_mean"], last["objects/kl_uniform"])
    assert settings.run is not None
    run(replace(settings, steps=121))  # and a CPU may go on with it
    assert load(settings.run / "last.pt").position == {"step": 121, "consumed": 968, "seed": 0}


@pytest.mark.gpu
def test_the_ways_of_a_gpu_learn_what_a_cpu_learns(settings: TrainSettings, tmp_path: Path) -> None:
    """Losses of 20 steps: in float32 to 1e-3, compiled or not; in bfloat16 to 2e-2."""

    def losses(name: str, **fields: Any) -> list[float]:
        run(replace(settings, run=tmp_path / name, log_every=1, **fields))
        return [row["loss"] for row in rows(tmp_path / name) if "loss" in row]

    wanted = losses("cpu")
    assert losses("float32", device="cuda", precision="float32") == pytest.approx(wanted, rel=1e-3)
    compiled = losses("compiled", device="cuda", precision="float32", compile=True)
    assert compiled == pytest.approx(wanted, rel=1e-3)
    assert losses("bfloat16", device="cuda", compile=True, profile=True) == pytest.approx(wanted, rel=2e-2)
    assert list(tmp_path.glob("bfloat16/*trace*"))
