"""A run that was stopped, at any moment and in any way, goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards.cli.preemption import PREEMPTED
from shards.errors import UserError
from shards.loader.catalog import Catalog
from tests.faults.commands import finish, state, training, wait_until
from tests.forked import Forked
from tests.train.conftest import rows
from train.checkpoint.checkpoint import load
from train.model.layers import Layer
from train.run import run
from train.settings import TrainSettings
from train.trainer.trainer import Trainer
from train.trainer.validation import StudentScore, Validation

pytestmark = pytest.mark.usefixtures("undrawn")


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
    wait_until(lambda: (folder / "metrics.jsonl").exists() and any("loss" in row for row in rows(folder)), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == PREEMPTED == 75
    position = load(folder / "last.pt").position
    assert position is not None and position["consumed"] == 8 * position["step"] > 0
    assert json.loads((folder / "validation.json").read_text())["step"] == 0
    step = position["step"] + 3
    finish(Forked("train", *training(shards, folder, steps=step, **never)))
    assert load(folder / "last.pt").position == {"step": step, "seed": 0, "consumed": 8 * step}


def test_a_try_that_saved_nothing_binds_no_one(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.run is not None
    monkeypatch.setattr("train.device.device.cpu_has_bfloat16", lambda: False)
    with pytest.raises(UserError, match="precision=bf16, but this CPU has no instructions for bfloat16"):
        run(replace(settings, precision="bf16"))
    assert (settings.run / "run.json").exists()
    run(replace(settings, resume="never"))
    assert load(settings.run / "last.pt").position is not None


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_whose_last_checkpoint_was_deleted_is_not_begun_anew(settings: TrainSettings, resume: Any) -> None:
    run(settings)
    assert settings.run is not None
    (settings.run / "last.pt").unlink()
    before = [(settings.run / name).read_bytes() for name in ("best.pt", "metrics.jsonl", "run.json")]
    with pytest.raises(UserError, match=r"best\.pt, card\.md, metrics\.jsonl of an earlier run, but no last"):
        run(replace(settings, resume=resume))
    assert [(settings.run / name).read_bytes() for name in ("best.pt", "metrics.jsonl", "run.json")] == before


def test_a_kill_between_the_first_best_and_the_first_save_leaves_something_to_go_on_from(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.run is not None
    settings = replace(settings, validate_every=5, save_every=1000)
    run(replace(settings, run=settings.run / "undisturbed"))

    def killed(step: int, *_: object) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "report", lambda trainer, step, reading: killed(step))
        run(settings)
    assert load(settings.run / "last.pt").position == {"step": 5, "consumed": 40, "seed": 0}
    run(settings)
    assert state(settings.run) == state(settings.run / "undisturbed")


@pytest.mark.parametrize("at", [10, 20])
def test_a_signal_during_a_validation_breaks_it_off_and_it_is_made_up_for(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In the middle, and after the last step."""
    settings = replace(settings, validate_every=10, save_every=100, keep_every=10)
    run(replace(settings, run=tmp_path / "undisturbed"))
    assert settings.run is not None

    def told_to_stop(score: StudentScore, logits: Any, batch: Any) -> Any:
        raise AssertionError("a batch was measured after the signal")

    def measured(trainer: Trainer, catalog: Catalog) -> Validation:
        if trainer.batches.consumed != 8 * at:
            return measure(trainer, catalog)
        with monkeypatch.context() as patch:
            os.kill(os.getpid(), signal.SIGTERM)
            patch.setattr(StudentScore, "__call__", told_to_stop)
            return measure(trainer, catalog)

    measure = Trainer._measured
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(Trainer, "_measured", measured)
        run(settings)
    assert ended.value.code == PREEMPTED
    assert load(settings.run / "last.pt").position == {"step": at, "consumed": 8 * at, "seed": 0}
    assert (settings.run / f"step-{at:07d}.pt").exists()
    run(settings)
    assert state(settings.run) == state(tmp_path / "undisturbed")
    for name in ("best.pt", "last.pt"):
        one, other = (load(folder / name) for folder in (settings.run, tmp_path / "undisturbed"))
        assert one.held_out == other.held_out and one.network_sha256 == other.network_sha256
    assert [row["step"] for row in rows(settings.run) if "validation" in row] == [0, 10, 20]


def test_a_best_whose_file_a_kill_prevented_is_none(settings: TrainSettings, tmp_path: Path) -> None:
    """The first best is written after the first last.pt."""
    run(replace(settings, run=tmp_path / "undisturbed", validate_every=5))
    run(replace(settings, validate_every=5, steps=10))
    assert settings.run is not None
    (settings.run / "best.pt").unlink()
    run(replace(settings, validate_every=5))
    assert state(settings.run) == state(tmp_path / "undisturbed") and (settings.run / "best.pt").exists()


def test_a_finished_run_stays_finished_and_its_best_is_kept(settings: TrainSettings) -> None:
    """Also where another part of the held-out clips would be measured from now on, or fewer steps are asked for."""
    run(replace(settings, validate_every=5))
    assert settings.run is not None
    before = {path.name: path.read_bytes() for path in settings.run.glob("*") if path.suffix in (".pt", ".jsonl")}
    for changed in ({"validate_clips": 1}, {"steps": 15}):
        run(replace(settings, **{"validate_every": 5} | changed))
    assert {
        path.name: path.read_bytes() for path in settings.run.glob("*") if path.suffix in (".pt", ".jsonl")
    } == before


def test_what_a_try_that_saved_nothing_measured_is_not_noted_twice(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "save", lambda trainer, step: (_ for _ in ()).throw(KeyboardInterrupt))
        run(settings)
    assert [row["step"] for row in rows(settings.run) if "validation" in row] == [0]
    run(settings)
    assert [row["step"] for row in rows(settings.run) if "validation" in row] == [0, 20]


def test_a_last_checkpoint_of_another_network_is_refused_in_one_line(settings: TrainSettings, tmp_path: Path) -> None:
    run(replace(settings, steps=8))
    wide = replace(settings.student, layers=[*settings.student.layers[:2], Layer("conv2", 8, 4, 4, 16)])
    run(replace(settings, steps=8, student=wide, run=tmp_path / "other"))
    assert settings.run is not None
    shutil.copy(tmp_path / "other" / "last.pt", settings.run / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt is of another run than run\.json beside it: size mismatch for"):
        run(settings)


@pytest.mark.gpu
def test_deterministic_arithmetic_on_a_gpu_resumes_bit_by_bit(settings: TrainSettings, tmp_path: Path) -> None:
    exact = replace(settings, device="cuda", deterministic=True)
    run(replace(exact, steps=8))
    run(exact)
    run(replace(exact, run=tmp_path / "undisturbed"))
    assert settings.run is not None
    assert state(settings.run) == state(tmp_path / "undisturbed")
