"""What happens around the loop: which batches it gets, what it minimises, when it validates and saves."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shards.errors import UserError
from shards.loader.catalog import Catalog
from shards.loader.streaming import sequential_reader, training_reader
from train.checkpoint.checkpoint import save
from train.checkpoint.modelcard import write_card
from train.checkpoint.saver import Saver
from train.data.batches import DeviceBatch, DeviceBatches, pinned_ring
from train.data.skips import Skips
from train.device.device import Compiler, arithmetic, compiler
from train.device.distributed import Ranks
from train.device.preemption import Stop
from train.model.autoencoder import reconstruction
from train.model.frontend import Frontend, network_input
from train.runfolder import RunFolder
from train.settings import TrainSettings
from train.trainer.journal import Cost, Journal
from train.trainer.loop import NEVER, Every, GradientDescent, train
from train.trainer.losses import LOSSES
from train.trainer.meter import Meter, Reading
from train.trainer.schedule import learning_rate
from train.trainer.state import TrainState
from train.trainer.trace import traced
from train.trainer.validation import (
    AutoencoderScore,
    BrokenOff,
    Score,
    StudentScore,
    Validation,
    baseline,
    validate,
)


@dataclass(frozen=True)
class Corpus:
    """The clips to learn from, those held out, and the part of these that is measured as training goes on."""

    training: Catalog
    held_out: Catalog
    measured: Catalog


class Trainer:
    """Fits one network to one corpus, in one folder. `journal` is rank 0's alone, as is all writing."""

    def __init__(
        self,
        settings: TrainSettings,
        corpus: Corpus,
        folder: RunFolder,
        state: TrainState,
        journal: Journal | None,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self.settings, self.corpus, self.folder, self.state = settings, corpus, folder, state
        self.journal, self.ranks, self.device = journal, ranks, device
        self.autocast = arithmetic(device, settings.precision, deterministic=settings.deterministic)
        self.compiled = compiler(settings.compile, device)
        self.frontend = Frontend(state.network)
        if settings.sync_batch_norm and ranks.world > 1:  # over all ranks' clips, by 14 exchanges a step
            self.frontend.network = nn.SyncBatchNorm.convert_sync_batchnorm(state.network)  # type: ignore[no-untyped-call]
        ranks.agree_on(state.network.state_dict().values())  # machines of other kinds draw other weights
        self.cost = Cost(3 * state.network.flops(corpus.training.clip.samples), corpus.training.mean_clip_bytes)
        log = journal.log if journal is not None else lambda line: print(line, file=sys.stderr)
        self.skips = Skips(folder.skipped(ranks.rank), log)
        self.is_student = settings.student.kind == "student"
        self.score: Score = AutoencoderScore()
        if self.is_student:
            self.score = StudentScore(baseline(corpus.training, device))

    def fit(self, stop: Stop) -> int:
        """Train until all steps are taken, or until `stop` is asked for; returns how many are."""
        settings, self.stop = self.settings, stop
        trace = self.folder.trace if settings.profile and self.ranks.is_first else None

        def stopping() -> bool:
            step_done()
            return stop()

        with (
            closing(self._training_batches()) as self.batches,
            Saver(self.ranks.writing) as self.saver,
            traced(trace) as step_done,
        ):
            return train(
                self._descent(),
                self._noting_skips(self.batches, self.corpus.training),
                Meter(self.device, self.ranks.average),
                steps=settings.steps,
                first_step=self.state.step,
                report=self.report,
                report_every=settings.log_every,
                validate=Every(settings.validate_every, self.validate, first=not self.state.is_measured)
                if self.corpus.held_out.clips
                else NEVER,
                save=Every(settings.save_every, self.save),
                keep=Every(settings.keep_every, self.keep),
                stopping=stopping,
            )

    def _descent(self) -> GradientDescent[DeviceBatch, Any]:
        settings = self.settings
        return GradientDescent(
            predictor(self.frontend, self.compiled),
            self._objective(),
            self.state.optimizer,
            autocast=self.autocast,
            rate=partial(
                learning_rate,
                lr=settings.lr,
                steps=settings.steps,
                warmup=settings.warmup,
                cosine=settings.schedule == "cosine",
            ),
            share=self.ranks.average_gradients,
            clip_norm=math.inf if settings.clip_norm is None else settings.clip_norm,
            accumulate=settings.accumulate,
        )

    def report(self, step: int, reading: Reading) -> None:
        skipped = 0
        if self.settings.streaming.on_bad_shard == "skip":
            skipped = int(self.ranks.total(torch.tensor([len(self.skips)], device=self.device)))
        if self.journal is not None:
            epoch = self.batches.consumed / self.corpus.training.clips
            self.journal.log_training(step, reading, self.cost, epoch=epoch, skipped=skipped)

    def validate(self, step: int) -> bool:
        """Measure held-out clips, all of them after the last step; save the network as the best if it never did better.

        Best means on the clips that are measured each time. True where a signal breaks it off; it is made up for when
        the run goes on.
        """
        self.ranks.agree_on(self.frontend.buffers())  # batch norm's statistics, of the network that is saved
        catalog = self.corpus.held_out if step >= self.settings.steps else self.corpus.measured
        try:
            found = self._measured(catalog)
        except BrokenOff:
            while not self.stop():  # each call is one exchange, in which all ranks take part until all know
                pass
            return True
        if self.settings.streaming.validation_urls is not None and len(found.keys) < catalog.clips:
            raise UserError(
                f"streaming.validation_urls hold {len(found.keys)} of the {catalog.clips} held-out clips to measure: "
                f"name all tars of {catalog.location} with validation in their names"
            )
        if self.journal is not None:
            self.journal.log_validation(step, found)
        self.state.held_out = {"step": step, "clips": len(found.keys), "mean": found.means}
        loss = found.of({str(key) for key in self.corpus.measured.keys}).loss
        if step and loss < self.state.best:
            self.state.best = loss
            if not self.folder.last.exists():  # a best without a last would be one whose last was deleted
                self.save(step)
            self._save(step, self.folder.best, to_use=True)
        return False

    def _measured(self, catalog: Catalog) -> Validation:
        with closing(self._held_out_batches(catalog)) as batches:
            return validate(
                self.frontend,
                predictor(self.frontend, self.compiled),
                self._noting_skips(batches, catalog),
                self.score,
                [str(key) for key in catalog.keys],
                self.device,
                autocast=self.autocast,
                total=self.ranks.total,
                stopping=lambda: self.stop.asked,
            )

    def save(self, step: int) -> None:
        self._save(step, self.folder.last)

    def keep(self, step: int) -> None:
        self._save(step, self.folder.kept(step), to_use=True)

    def _save(self, step: int, path: Path, *, to_use: bool = False) -> None:
        """The model card beside the checkpoints is of the best one; where nothing is held out, of the last."""
        self.state.step, self.state.consumed = step, self.batches.consumed
        if not self.ranks.is_first:
            return
        checkpoint = self.state.checkpoint(self.settings, self.corpus.training, to_use=to_use)

        def write() -> None:
            save(path, checkpoint)
            if path == self.folder.best or (path == self.folder.last and checkpoint.held_out is None):
                write_card(self.folder.card, checkpoint, path.name)

        self.saver.submit(write)

    def _objective(self) -> Callable[[Any, DeviceBatch], Tensor]:
        """The loss of a prediction on its batch."""
        if self.is_student:
            loss = self.compiled(LOSSES[self.settings.loss])
            return lambda logits, batch: loss(logits, batch.posteriors)
        error = self.compiled(reconstruction)
        return lambda rebuilt, batch: error(rebuilt, network_input(batch.waveform, batch.gain))

    def _training_batches(self) -> DeviceBatches:
        """This rank's share of the endless stream, from where the state stands."""
        settings, catalog, ranks = self.settings, self.corpus.training, self.ranks
        reader = training_reader(
            catalog,
            self._ring(catalog),
            settings.streaming,
            seed=settings.seed,
            batch=settings.batch // settings.accumulate,
            rank=ranks.rank,
            world=ranks.world,
            position=self.state.consumed,
        )
        return DeviceBatches(
            reader,
            catalog.clip,
            self.device,
            augment=settings.augment,
            seed=settings.seed,
            consumed=self.state.consumed,
        )

    def _held_out_batches(self, catalog: Catalog) -> DeviceBatches:
        """This rank's share of held-out clips, in batches of the same shape as those trained on."""
        ranks = self.ranks
        ring = self._ring(catalog)
        reader = sequential_reader(catalog, ring, self.settings.streaming, rank=ranks.rank, world=ranks.world)
        return DeviceBatches(reader, catalog.clip, self.device)

    def _ring(self, catalog: Catalog) -> Any:
        rows = max(self.settings.batch // self.settings.accumulate // self.ranks.world, 1)
        return pinned_ring(self.settings.streaming.prefetch, rows, catalog.clip, catalog.classes, self.device)

    def _noting_skips(self, batches: DeviceBatches, catalog: Catalog) -> Iterator[DeviceBatch]:
        """The batches as they come; the clips left out of each are noted when its turn has come."""
        for batch in batches:
            self.skips.note(catalog, batch.skipped)
            yield batch


def predictor(frontend: nn.Module, compiled: Compiler) -> Callable[[DeviceBatch], Any]:
    """The compiled network as a function of a batch."""
    forward = compiled(frontend)
    return lambda batch: forward(batch.waveform, batch.gain)
