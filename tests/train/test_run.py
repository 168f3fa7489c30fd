"""Whole runs on tiny shards: they learn, go on after kill -9 as if nothing had been, refuse to become another run."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.cli.preemption import PREEMPTED
from shards.errors import UserError
from shards.loader.catalog import load_catalog
from shards.loader.keep import Keep
from shards.loader.streaming import Streaming
from tests.faults.commands import finish, state, training, wait_until
from tests.forked import Forked
from train.checkpoint.checkpoint import load, load_network, load_student
from train.model.layers import Layer, StudentSpec
from train.run import run
from train.runfolder import RunFolder
from train.settings import TrainSettings

MakeShards = Callable[..., Path]
CLIPS = {"train-000000": 20, "train-000001": 15, "validation-000000": 7}


@pytest.fixture
def shards(tmp_path: Path, make_shards: MakeShards) -> Path:
    return make_shards(tmp_path / "shards", CLIPS)


@pytest.fixture
def settings(tmp_path: Path, spec: StudentSpec, shards: Path) -> TrainSettings:
    return TrainSettings(
        shards=str(shards),
        student=spec,
        run=tmp_path / "run",
        device="cpu",
        compile=False,
        batch=8,
        steps=20,
        log_every=5,
        validate_every=20,
        save_every=8,
    )


def rows(run_folder: Path | None) -> list[dict[str, Any]]:
    assert run_folder is not None
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def test_a_student_learns_and_its_checkpoint_describes_itself(settings: TrainSettings) -> None:
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
    assert len(losses) == 24 and losses[-1] < 0.5 * losses[0]
    assert (settings.run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(settings.run.glob("events.out.tfevents.*"))


def test_kill_9_and_resume_is_the_undisturbed_run_bit_by_bit(shards: Path, tmp_path: Path) -> None:
    folder, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    process = Forked("train", *training(shards, folder, steps=10**6))
    wait_until(lambda: (folder / "last.pt").exists() and (folder / "validation.json").exists(), process)
    process.kill()
    process.communicate()
    position = load(folder / "last.pt").position
    assert position is not None and position["step"] % 8 == 0

    steps = position["step"] + 13
    one_thread = {"streaming.threads": 1, "streaming.prefetch": 1}
    finish(Forked("train", *training(shards, folder, steps=steps, **one_thread)))
    finish(Forked("train", *training(shards, undisturbed, steps=steps, **{"streaming.threads": 7})))
    assert state(folder) == state(undisturbed)
    noted = [row["step"] for row in rows(folder) if "loss" in row]
    assert noted == sorted(set(noted)), "what was noted after the checkpoint was noted again, and only once"
    assert rows(undisturbed)[-1]["step"] == noted[-1]


def test_sigterm_saves_at_the_next_step_and_ends_with_its_own_code(shards: Path, tmp_path: Path) -> None:
    folder, never = tmp_path / "run", {"validate_every": 10**6, "save_every": 10**6}
    process = Forked("train", *training(shards, folder, steps=10**6, log_every=2, **never))
    wait_until(lambda: (folder / "metrics.jsonl").exists() and rows(folder), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == PREEMPTED == 75
    position = load(folder / "last.pt").position
    assert position is not None and position["consumed"] == 8 * position["step"] > 0
    assert not (folder / "validation.json").exists()
    step = position["step"] + 3
    finish(Forked("train", *training(shards, folder, steps=step, **never)))
    assert load(folder / "last.pt").position == {"step": step, "seed": 0, "consumed": 8 * step}


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
    line = "keep given.class=['cat', 'dog']: 11 of 35 train clips are left out, 2 of 7 validation clips are left out"
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


def test_a_try_that_saved_nothing_binds_no_one(settings: TrainSettings) -> None:
    assert settings.run is not None
    with pytest.raises(UserError, match="precision=bf16 is for device=cuda"):
        run(replace(settings, precision="bf16"))
    assert (settings.run / "run.json").exists()
    run(replace(settings, resume="never"))
    assert load(settings.run / "last.pt").position is not None


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
    settings: TrainSettings, tmp_path: Path, make_shards: MakeShards, capsys: pytest.CaptureFixture[str]
) -> None:
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
