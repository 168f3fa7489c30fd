"""Stage one: videos -> plan -> decoded clips -> teachers' posteriors -> shards. The assembly, read top to bottom."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from pipeline.executor.job import DecodeResult, DecodeTask
from pipeline.executor.resources import heads_of
from pipeline.output.account import REJECTS, account_for, write_rejects
from pipeline.output.agreement import make_plan, unfinished
from pipeline.output.destination import Output, spool
from pipeline.output.progress import Progress
from pipeline.output.ranks import FolderLease, Rank
from pipeline.output.writing import write_shard
from pipeline.report import write_report
from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.videos.fetch import within_reach
from pipeline.videos.listing import find_videos, require_protocols, root_of
from pipeline.videos.plan import Plan, ShardPlan
from shards.errors import UserError
from shards.format.manifest import Manifest
from shards.format.sidefile import side_files

log = logging.getLogger("pipeline")
JUDGED_FROM = 100  # inputs after which max_reject_share is looked at while the run goes on


def run(settings: PipelineSettings) -> None:
    """Make the shards, or go on where a killed run stopped. Raises UserError."""
    root = root_of(settings.videos)
    teacher_cards = cards(settings.teachers)  # missing weights stop the run before any video is touched
    output, rank = settings.output, settings.seat
    with FolderLease(output.folder, rank) as seat, Progress(output.folder / log_of(rank)) as progress:
        listing = find_videos(settings.videos)
        require_protocols(listing)
        with seat.turn():
            output.pull()
            manifest = settings.manifest(teacher_cards, settings.precision_of(output.manifest))
            output.agree_on(
                manifest,
                "Use the settings the shards were made with, or another folder (shards=...).",
                f"Another set is added beside it: `make relabel videos={settings.videos} shards={settings.shards} "
                f"teachers={settings.teachers.name}`",
            )
            plan = make_plan(
                output,
                seat,
                listing,
                policy=settings.policy,
                reading=settings.reading,
                sample_rate=settings.clip.sample_rate,
                retry_rejected=settings.retry_rejected,
            )
            seal = output.seal()
        part = rank.part(plan.shards)
        output.clear(None if rank.world == 1 else [shard.shard for shard in part])
        todo = unfinished(output.folder, part)
        if todo:
            label_shards(settings, manifest, todo, root, progress)
        with seat.turn():
            output.pull()
            output.require_sealed(seal)
            settle(settings, output, plan, alone=not seat.others())


def log_of(rank: Rank) -> str:
    return "pipeline.log" if rank.world == 1 else f"pipeline-{rank.rank}-of-{rank.world}.log"


def label_shards(
    settings: PipelineSettings,
    manifest: Manifest,
    todo: list[ShardPlan],
    root: str,
    progress: Progress,
) -> None:
    """Decode and label the videos of all unfinished shards, and write each shard when its last video is complete."""
    tasks = (
        DecodeTask(shard.shard, video.path, video.key, number)
        for number, (shard, video) in enumerate((shard, video) for shard in todo for video in shard.videos)
    )
    progress.start(total=sum(shard.count for shard in todo), shards=len(todo))
    with (
        spool(settings.output.folder, settings.seat.name) as place,
        settings.start(
            root=within_reach(root, place),
            spool=place,
            clip=settings.clip,
            heads=heads_of(settings.teachers, manifest.teachers),
            reading=settings.reading,
            keep_frames=settings.keep_frames,
            precision=manifest.precision,
        ) as executor,
    ):
        judge = RejectLimit(progress, settings.max_reject_share)
        for side in executor.shards(
            tasks, partial(write_shard, settings.output, settings.clip.sample_rate, settings.audio), judge.hear
        ):
            progress.shard_done(side)


@dataclass
class RejectLimit:
    """Hears what became of each video, and stops the run once too many are rejected. Finished shards stay."""

    progress: Progress
    max_reject_share: float
    seen: int = 0

    def hear(self, path: str, result: DecodeResult) -> None:
        self.progress.video_done(path, result)
        self.seen += 1
        if self.seen >= JUDGED_FROM:
            require_share(self.progress.rejected, self.seen, self.max_reject_share)


def require_share(rejected: int, inputs: int, max_reject_share: float) -> None:
    if rejected > max_reject_share * inputs:
        raise UserError(
            f"{rejected} of {inputs} inputs are rejected, max_reject_share={max_reject_share:g}: see the reasons in "
            "the log and rejects.jsonl beside the shards. Finished shards stay; mend the input, or raise the share"
        )


def settle(settings: PipelineSettings, output: Output, plan: Plan, *, alone: bool) -> None:
    """The account of all inputs; from the rank that ends last, the page too. Raises UserError for many rejects."""
    account = account_for(plan, side_files(output.folder), settings.clip.sample_rate)
    if alone:
        write_rejects(output.folder, account.rejects)
        output.push(REJECTS)
    require_share(len(account.rejects), account.inputs, settings.max_reject_share)
    log.info("%s", account)
    if alone:
        page = write_report(output.folder, output.tars)
        output.push(page.name)
        log.info("a page to look at: %s", page)
