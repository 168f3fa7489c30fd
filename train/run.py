"""Stage two: shards -> batches -> student -> checkpoint. The assembly, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shards.catalog import Catalog, load_catalog
from shards.stream import sequential_reader, training_reader
from train.autoencoder import reconstruction
from train.batches import DeviceBatch, DeviceBatches, pinned_ring
from train.device import Compiler, arithmetic, compiler, require_device
from train.distributed import Ranks, ranks_of
from train.ear import Ear, heard, hearing, shared
from train.journal import Journal
from train.loop import NEVER, Occasion, train
from train.losses import LOSSES, windows_per_step
from train.meter import Meter, Reading
from train.pupil import Pupil, baseline, begin, go_on, keep
from train.runfolder import RunFolder
from train.settings import TrainSettings, record
from train.stop import Stop
from train.validate import Score, Validation, autoencoder_score, student_score, validate


@dataclass(frozen=True)
class Corpus:
    """The clips to learn from, and those held out."""

    training: Catalog
    held_out: Catalog


def run(settings: TrainSettings) -> None:
    """Train a student, or go on where a run stopped. Raises ContractError; ends with code 75 after SIGTERM."""
    with ExitStack() as stack:
        ranks = stack.enter_context(ranks_of(settings.device))
        device = require_device(settings.device, ranks.local_rank)
        corpus = open_corpus(settings)
        folder = claim(settings, corpus, ranks, stack)
        pupil = begin(settings, corpus.training, device)
        go_on(pupil, folder, device)
        journal = None
        if ranks.is_first:
            progress = {"step": pupil.step, "steps": settings.steps, "batch": settings.batch}
            journal = stack.enter_context(Journal(folder, **progress))
            introduce(settings, corpus, folder, pupil, journal)
        if pupil.step < settings.steps:
            stop = stack.enter_context(Stop(ranks))
            teach(settings, corpus, folder, pupil, journal, ranks, device, stop)
            stop.leave()


def open_corpus(settings: TrainSettings) -> Corpus:
    """The catalogs of both splits, once it is certain that student, clip and teachers go together."""
    catalogs = (
        load_catalog(settings.shards, split, learn_from=settings.learn_from, teacher_set=settings.teacher_set)
        for split in ("train", "validation")
    )
    corpus = Corpus(*catalogs)
    if settings.student.kind == "student":
        windows_per_step(settings.student, corpus.training.clip)
    return corpus


def claim(settings: TrainSettings, corpus: Corpus, ranks: Ranks, stack: ExitStack) -> RunFolder:
    """The run's folder, held by rank 0 until the run ends; the others wait for it. Raises ContractError."""
    folder = RunFolder(settings.folder)
    if ranks.is_first:
        stack.enter_context(folder.exclusive())
        folder.begin(record(settings, corpus.training), settings.resume)
    ranks.wait()
    return folder


def introduce(settings: TrainSettings, corpus: Corpus, folder: RunFolder, pupil: Pupil, journal: Journal) -> None:
    """Say what is about to happen."""
    heads = ", ".join(f"{head} ({classes})" for head, classes in corpus.training.classes.items())
    lesson = f"{settings.loss} to {heads}" if settings.student.kind == "student" else "reconstruction"
    journal.say(
        f"{settings.student.name}: {lesson}; {corpus.training.clips} clips, {corpus.held_out.clips} held out; "
        f"run {folder.path}"
    )
    if pupil.step >= settings.steps:
        journal.say(f"all {pupil.step} steps are done: raise steps=... to go on")
    elif pupil.step:
        journal.say(f"going on after step {pupil.step}")
    if not corpus.held_out.clips:
        journal.say(f"no clip of {settings.shards} is held out: training without validation")


def teach(
    settings: TrainSettings,
    corpus: Corpus,
    folder: RunFolder,
    pupil: Pupil,
    journal: Journal | None,
    ranks: Ranks,
    device: torch.device,
    stop: Stop,
) -> None:
    """Everything around the loop: what a step computes, and what is done now and then."""
    compiled = compiler(settings.compile, device)
    autocast = arithmetic(device, settings.precision)
    ear = Ear(pupil.network)
    score = score_of(settings, corpus, device)
    with closing(training_batches(settings, corpus.training, pupil.consumed, ranks, device)) as batches:

        def report(step: int, reading: Reading) -> None:
            if journal:
                journal.training(step, reading)

        def examine(step: int) -> None:
            pupil.step, pupil.consumed = step, batches.consumed
            ranks.agree_on_buffers(ear)
            keys = [str(key) for key in corpus.held_out.keys]
            with closing(held_out_batches(settings, corpus.held_out, ranks, device)) as held_out:
                found = validate(
                    ear, hearing(ear, compiled), held_out, score, keys, device, autocast=autocast, total=ranks.total
                )
            if journal:
                journal.validation(step, found)
            note_best(found)

        def note_best(found: Validation) -> None:
            if found.loss < pupil.best:
                pupil.best = found.loss
                if ranks.is_first:
                    keep(pupil, settings, corpus.training, folder, as_best=True)

        def save(step: int) -> None:
            pupil.step, pupil.consumed = step, batches.consumed
            if ranks.is_first:
                keep(pupil, settings, corpus.training, folder)

        train(
            hearing(shared(ear, device, ranks), compiled),
            batches,
            objective_of(settings, compiled),
            pupil.optimizer,
            Meter(device, ranks.average),
            steps=settings.steps,
            first_step=pupil.step,
            autocast=autocast,
            report=report,
            report_every=settings.log_every,
            validate=Occasion(settings.validate_every, examine) if corpus.held_out.clips else NEVER,
            save=Occasion(settings.save_every, save),
            stopping=stop,
        )


def objective_of(settings: TrainSettings, compiled: Compiler) -> Callable[[Any, DeviceBatch], Tensor]:
    """The loss of a prediction on its batch."""
    if settings.student.kind == "autoencoder":
        error = compiled(reconstruction)
        return lambda rebuilt, batch: error(rebuilt, heard(batch.waveform, batch.gain))
    loss = compiled(LOSSES[settings.loss])
    return lambda logits, batch: loss(logits, batch.posteriors)


def score_of(settings: TrainSettings, corpus: Corpus, device: torch.device) -> Score:
    if settings.student.kind == "autoencoder":
        return autoencoder_score
    return student_score(baseline(corpus.training, device))


def training_batches(
    settings: TrainSettings, catalog: Catalog, position: int, ranks: Ranks, device: torch.device
) -> DeviceBatches:
    """This rank's share of the endless stream, from `position` on."""
    rows = max(settings.batch // ranks.world, 1)
    ring = pinned_ring(settings.streaming.prefetch, rows, catalog.clip, catalog.classes, device)
    place = {"rank": ranks.rank, "world": ranks.world, "position": position}
    reader = training_reader(catalog, ring, settings.streaming, seed=settings.seed, batch=settings.batch, **place)
    return DeviceBatches(reader, catalog.clip, device, augment=settings.augment, seed=settings.seed)


def held_out_batches(settings: TrainSettings, catalog: Catalog, ranks: Ranks, device: torch.device) -> DeviceBatches:
    """This rank's share of the held-out clips, in batches of the same shape as those trained on."""
    rows = max(settings.batch // ranks.world, 1)
    ring = pinned_ring(settings.streaming.prefetch, rows, catalog.clip, catalog.classes, device)
    reader = sequential_reader(catalog, ring, settings.streaming, rank=ranks.rank, world=ranks.world)
    return DeviceBatches(reader, catalog.clip, device)
