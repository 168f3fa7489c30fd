"""Stage two: shards -> batches -> student -> checkpoint. The assembly, read top to bottom."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from shards.cli.words import amount
from shards.errors import UserError, require_same
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.order import sample
from shards.loader.streaming import training_reader
from train.device.device import arithmetic, require_device
from train.device.distributed import Ranks
from train.device.preemption import Stop
from train.device.torchrun import ranks_of
from train.runfolder import RunFolder
from train.settings import TrainSettings, record
from train.trainer.journal import Journal
from train.trainer.losses import windows_per_step
from train.trainer.state import TrainState
from train.trainer.trainer import Corpus, Trainer


def run(settings: TrainSettings) -> None:
    """Train a student, or resume where a run stopped. Raises UserError; ends with code 75 after SIGTERM."""
    with ExitStack() as stack:
        ranks = stack.enter_context(ranks_of(settings.device))
        ranks.require_shares(settings.batch, settings.accumulate)
        device = require_device(settings.device, ranks.local_rank)
        corpus = open_corpus(settings)
        ranks.require_same(agreed(settings, corpus), "Start all ranks with the same command on the same shards.")
        folder = claim(settings, corpus, ranks, stack)
        state, begun = begin(settings, corpus, folder, ranks, device)
        journal = open_journal(settings, corpus, folder, state, begun, stack) if ranks.is_first else None
        if not is_finished(settings, corpus, state):
            stop = stack.enter_context(Stop(ranks))
            step = Trainer(settings, corpus, folder, state, journal, ranks, device).fit(stop)
            if journal is not None and stop.signal is not None:
                journal.log_stop(step, stop.signal.name)
            stop.leave()


class Sweep:
    """What would stop one of a sweep's jobs, found before the first begins."""

    def __init__(self) -> None:
        self._records: dict[Path, dict[str, Any]] = {}  # of the jobs so far, by their folders

    def check(self, settings: TrainSettings) -> None:
        """Device, shards, heads, the run's folder, and the checkpoint to begin from. Raises UserError."""
        arithmetic(require_device(settings.device), settings.precision)
        corpus = open_corpus(settings)
        training_reader(corpus.training, [], settings.streaming, seed=settings.seed, batch=settings.batch).close()
        folder, wanted = RunFolder(settings.folder), record(settings, corpus.training)
        earlier = self._records.setdefault(folder.path.resolve(), wanted)
        if earlier is not wanted:
            if settings.resume == "never":
                raise UserError(f"two jobs have the folder {folder.path}, which resume=never forbids: leave out one")
            remedy = "Leave out run=..., and each job has a folder of its own."
            require_same(wanted, earlier, f"an earlier job in {folder.path}", remedy, this="this job")
        if folder.path.exists():
            folder.require_open(wanted, settings.resume)
        if folder.last.exists() or settings.init is not None:
            begin(settings, corpus, folder, Ranks(), torch.device("cpu"))


def open_corpus(settings: TrainSettings) -> Corpus:
    """The catalogs of both splits, once it is certain that student, clip and teachers go together."""
    training, held_out = (
        load_catalog(
            settings.shards,
            split,
            learn_from=settings.learn_from,
            teacher_set=settings.teacher_set,
            keep=settings.keep,
            skipping=settings.streaming.on_bad_shard == "skip",
        )
        for split in ("train", "validation")
    )
    measured = held_out.part(sample(held_out.clips, settings.validate_clips or held_out.clips))
    corpus = Corpus(training, held_out, measured)
    if not corpus.training.clips and corpus.training.left_out:
        raise UserError(
            f"keep leaves out all {corpus.training.left_out} clips of {settings.shards} to train on: {settings.keep}"
        )
    if not corpus.training.clips:
        raise UserError(
            f"{settings.shards} holds no clip to train on: see `make check-shards shards={settings.shards}`"
        )
    if settings.student.kind == "student":
        windows_per_step(settings.student, corpus.training.clip)
    return corpus


def claim(settings: TrainSettings, corpus: Corpus, ranks: Ranks, stack: ExitStack) -> RunFolder:
    """The run's folder, held by rank 0 until the run ends; the others wait for it. Raises UserError."""
    folder = RunFolder(settings.folder)
    if ranks.is_first:
        stack.enter_context(folder.exclusive())
        folder.begin(record(settings, corpus.training), settings.resume)
    ranks.wait()
    return folder


def begin(
    settings: TrainSettings, corpus: Corpus, folder: RunFolder, ranks: Ranks, device: torch.device
) -> tuple[TrainState, str]:
    """What the run begins with, its own last checkpoint, `init` or a new network; and a line that says of `init` what.

    Raises UserError.
    """
    state = TrainState.create(settings, corpus.training, device)
    state.resume(folder, ranks, settings)
    if settings.init is None or state.step:
        return state, ""
    heads = state.begin_from(settings.init, corpus.training, ranks)
    return state, f"begun with the layers of {settings.init}, and of its heads {', '.join(heads) or 'none'}"


def agreed(settings: TrainSettings, corpus: Corpus) -> dict[str, Any]:
    """What all ranks of a run must have alike: what decides the weights, and what they do when.

    How far the run is, rank 0 tells the others.
    """
    together = ("steps", "log_every", "validate_every", "validate_clips", "save_every")
    return {
        **record(settings, corpus.training),
        **{name: getattr(settings, name) for name in together},
        "streaming.on_bad_shard": settings.streaming.on_bad_shard,
        "held-out shards (hash of their contents)": corpus.held_out.fingerprint[:16],
    }


def is_finished(settings: TrainSettings, corpus: Corpus, state: TrainState) -> bool:
    """Whether all steps are taken and, where that is wanted, what they led to is measured."""
    measures = settings.validate_every > 0 and corpus.held_out.clips > 0
    return state.step >= settings.steps and (state.is_measured or not measures)


def open_journal(
    settings: TrainSettings, corpus: Corpus, folder: RunFolder, state: TrainState, begun: str, stack: ExitStack
) -> Journal:
    """The run's journal, which begins with what is about to happen."""
    journal = stack.enter_context(Journal(folder, step=state.step, steps=settings.steps, batch=settings.batch))
    heads = ", ".join(f"{head} ({classes} classes)" for head, classes in corpus.training.classes.items())
    objective = f"{heads} by loss={settings.loss}" if settings.student.kind == "student" else "to give back its input"
    clips = f"{amount(corpus.training.clips, 'clip')}, {corpus.held_out.clips} held out"
    journal.log(f"{settings.student.name} learns {objective}; {clips}; run folder {folder.path}")
    if begun:
        journal.log(begun)
    if settings.keep.chosen:
        journal.log(f"keep {settings.keep}: {_left_out(corpus.training)}, {_left_out(corpus.held_out)}")
    if is_finished(settings, corpus, state):
        journal.log(f"all {amount(state.step, 'step')} are done: raise steps=... to go on")
    elif state.step:
        journal.log(f"going on after step {state.step}")
    if not corpus.held_out.clips:
        journal.log(f"no clip of {settings.shards} is held out: training without validation")
    return journal


def _left_out(catalog: Catalog) -> str:
    return f"{catalog.left_out} of {amount(catalog.left_out + catalog.clips, f'{catalog.split} clip')} left out"
