"""Stage one: videos -> plan -> decoded clips -> teachers' posteriors -> shards. The assembly, read top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from pipeline.executor.job import DecodeResult, DecodeTask
from pipeline.executor.resources import heads_of
from pipeline.output.account import REJECTS, account_of, write_rejects
from pipeline.output.agreement import make_plan, unfinished
from pipeline.output.destination import Output
from pipeline.output.faults import FaultLimit
from pipeline.output.folder_lock import FolderLease
from pipeline.output.progress import Progress
from pipeline.output.writing import write_shard
from pipeline.report import write_report
from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.words import with_text
from pipeline.videos.fetch import within_reach
from pipeline.videos.listing import find_videos, require_protocols, root_of
from pipeline.videos.plan import ShardPlan
from shards.errors import UserError
from shards.format.manifest import Manifest

log = logging.getLogger("pipeline")
MIN_INPUTS = 100  # from which on max_reject_share is looked at while the run goes on


def run(settings: PipelineSettings) -> None:
    """Make the shards, or go on where a killed run stopped. Raises UserError."""
    root = root_of(settings.videos)
    teacher_cards = cards(settings.teachers)  # missing weights stop the run before any video is touched
    output, rank = settings.output, settings.as_rank
    with FolderLease(output.folder, rank) as lease, Progress(output, rank) as progress:
        listing = find_videos(settings.videos)
        require_protocols(listing)
        output.fetch()
        with lease.turn():
            output.pull()
            complete = with_text(settings.teachers, teacher_cards, output.manifest)
            manifest = settings.manifest(complete, settings.precision_of(output.manifest))
            output.agree_on(
                manifest,
                "Use the settings the shards were made with, or another folder (shards=...).",
                f"Another set is added beside it: `make relabel videos={settings.videos} shards={settings.shards} "
                f"teachers={settings.teachers.name}`",
            )
            plan = make_plan(
                output,
                lease,
                listing,
                policy=settings.policy,
                reading=settings.reading,
                clip=settings.clip,
                retry_rejected=settings.retry_rejected,
            )
            seal = output.seal()
        part = rank.part(plan.shards)
        output.clear(None if rank.world == 1 else [shard.shard for shard in part])
        todo = unfinished(output.folder, part)
        if todo:
            label_shards(settings, manifest, todo, root, progress)
        output.fetch()
        with lease.turn():
            output.pull()
            output.require_sealed(seal, manifest)
            settle(settings, output, is_last=not lease.others())


def label_shards(
    settings: PipelineSettings, manifest: Manifest, todo: list[ShardPlan], root: str, progress: Progress
) -> None:
    """Decode and label the videos of all unfinished shards, and write each shard when its last video is complete."""
    progress.start(total=sum(shard.count for shard in todo), shards=len(todo))
    with (
        settings.spooling(settings.clip) as place,
        settings.start(
            root=within_reach(root, place),
            spool=place,
            clip=settings.clip,
            heads=heads_of(settings.teachers, manifest.teachers),
            reading=settings.reading,
            audio=settings.audio,
            keep_frames=settings.keep_frames,
            precision=manifest.precision,
        ) as executor,
    ):
        retries = frozenset(shard.shard for shard in todo if shard.retry)
        faults = FaultLimit(retries, is_off=settings.max_reject_share >= 1)
        limit = RejectLimit(progress, settings.max_reject_share, faults)
        write = partial(write_shard, settings.output, settings.clip.sample_rate, settings.audio, faults)
        for side in executor.shards(tasks_of(todo), write, limit.on_video):
            progress.shard_done(side)


def tasks_of(shards: Iterable[ShardPlan]) -> Iterator[DecodeTask]:
    """One task a video, in plan order."""
    videos = ((shard.shard, video) for shard in shards for video in shard.videos)
    for number, (name, video) in enumerate(videos):
        yield DecodeTask(name, video.path, video.key, number, start=video.start, end=video.end, given=video.given)


@dataclass
class RejectLimit:
    """Stops the run with UserError once too many of its videos are rejected. Finished shards stay."""

    progress: Progress
    max_reject_share: float
    faults: FaultLimit
    inputs: int = 0

    def on_video(self, path: str, result: DecodeResult) -> None:
        self.progress.video_done(path, result)
        self.faults.has_read |= result.reason is None
        self.inputs += 1
        if self.inputs >= MIN_INPUTS:
            require_share(self.progress.rejected, self.inputs, self.max_reject_share)


def require_share(rejected: int, inputs: int, max_reject_share: float) -> None:
    """Raise UserError where more than this share of the inputs is rejected."""
    if rejected > max_reject_share * inputs:
        raise UserError(
            f"{rejected} of {inputs} inputs are rejected, max_reject_share={max_reject_share:g}: see the reasons in "
            "the log and rejects.jsonl beside the shards. Finished shards stay; mend the input, or raise the share"
        )


def settle(settings: PipelineSettings, output: Output, *, is_last: bool) -> None:
    """The account of all inputs; from the rank that ends last, the page too. Raises UserError for many rejects."""
    account = account_of(output.folder, settings.clip)
    if is_last:
        write_rejects(output.folder, account)
        output.push(REJECTS)
    require_share(len(account.rejects), account.inputs, settings.max_reject_share)
    log.info("%s", account)
    if is_last:
        page = write_report(output.folder, output.tars, account)
        output.push(page.name)
        log.info("a page to look at: %s", page)
