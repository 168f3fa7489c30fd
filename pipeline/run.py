"""Stage one: videos -> plan -> decoded clips -> teachers' posteriors -> shards. The assembly, read top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.decode_task import NO_ROOM, Task
from pipeline.executor.job import Job, Outcome, Waveforms
from pipeline.executor.resources import heads_of
from pipeline.output.account import REJECTS, account_for, side_files, spool, write_rejects
from pipeline.output.agreement import agree_on_manifest, make_plan, unfinished
from pipeline.output.destination import Output
from pipeline.output.progress import Progress
from pipeline.output.ranks import Rank, Seat
from pipeline.report import write_report
from pipeline.settings import PipelineSettings
from pipeline.teachers.teacher import cards
from pipeline.videos.fetch import within_reach
from pipeline.videos.keys import clip_key
from pipeline.videos.listing import find_videos, require_protocols, root_of
from pipeline.videos.plan import Plan, ShardPlan
from shards.format.example import ClipMeta, Example
from shards.format.manifest import ContractError, TeacherCard
from shards.format.sidefile import Reject, SideFile
from shards.format.writer import ShardWriter

log = logging.getLogger("pipeline")
JUDGED_FROM = 100  # inputs after which max_reject_share is looked at while the run goes on


def run(settings: PipelineSettings) -> None:
    """Make the shards, or go on where a killed run stopped. Raises ContractError."""
    root = root_of(settings.videos)
    teacher_cards = cards(settings.teachers)  # missing weights stop the run before any video is touched
    output, rank = settings.output, settings.seat
    with Seat(output.folder, rank) as seat, Progress(output.folder / log_of(rank)) as progress:
        listing = find_videos(settings.videos)
        require_protocols(listing)
        with seat.turn():
            output.pull()
            agree_on_manifest(settings, output, teacher_cards)
            plan = make_plan(settings, output, seat, listing)
            seal = output.seal()
        part = rank.part(plan.shards)
        output.clear(None if rank.world == 1 else [shard.shard for shard in part])
        todo = unfinished(output.folder, part)
        if todo:
            label_shards(settings, teacher_cards, todo, root, progress)
        with seat.turn():
            output.pull()
            output.require_sealed(seal)
            settle(settings, output, plan, alone=not seat.others())


def log_of(rank: Rank) -> str:
    return "pipeline.log" if rank.world == 1 else f"pipeline-{rank.rank}-of-{rank.world}.log"


def label_shards(
    settings: PipelineSettings,
    teacher_cards: dict[str, TeacherCard],
    todo: list[ShardPlan],
    root: str,
    progress: Progress,
) -> None:
    """Decode and label the videos of all unfinished shards, and write each shard when its last video is complete."""
    tasks = (
        Task(shard.shard, video.path, video.key, number)
        for number, (shard, video) in enumerate((shard, video) for shard in todo for video in shard.videos)
    )
    progress.start(total=sum(shard.count for shard in todo), shards=len(todo))
    with (
        spool(settings.output.folder, settings.seat.name) as place,
        settings.start(
            root=within_reach(root, place),
            spool=place,
            clip=settings.clip,
            heads=heads_of(settings.teachers, teacher_cards),
            reading=settings.reading,
            keep_frames=settings.keep_frames,
        ) as executor,
    ):
        judge = Judge(progress, settings.max_reject_share)
        for side in executor.shards(tasks, partial(write_shard, settings), judge.hear):
            progress.shard_done(side)


@dataclass
class Judge:
    """Hears what became of each video, and stops the run once too many are rejected. Finished shards stay."""

    progress: Progress
    max_reject_share: float
    seen: int = 0

    def hear(self, video: Outcome) -> None:
        self.progress.video_done(video)
        self.seen += 1
        if self.seen >= JUDGED_FROM:
            require_share(self.progress.rejected, self.seen, self.max_reject_share)


def require_share(rejected: int, inputs: int, max_reject_share: float) -> None:
    if rejected > max_reject_share * inputs:
        raise ContractError(
            f"{rejected} of {inputs} inputs are rejected, max_reject_share={max_reject_share:g}: see the reasons in "
            "the log and rejects.jsonl beside the shards. Finished shards stay; mend the input, or raise the share"
        )


def write_shard(settings: PipelineSettings, shard: str, jobs: Iterable[Job[Any]], waveforms: Waveforms) -> SideFile:
    """One tar and its side file, from videos in plan order."""
    output = settings.output
    output.folder.mkdir(parents=True, exist_ok=True)  # on another machine, there may be no working folder yet
    writer = ShardWriter(output.folder, shard, sample_rate=settings.clip.sample_rate, audio=settings.audio)
    rejects: list[Reject] = []
    dropped: list[Reject] = []
    hashes: dict[str, str] = {}
    with closing(writer):
        for job in jobs:
            task, summary = job.task, job.summary
            assert summary is not None
            if summary.reason == NO_ROOM:
                raise ContractError(f"{summary.detail}: make room and run the same command again; finished shards stay")
            if summary.sha256:
                hashes[task.key] = summary.sha256
            if summary.reason is not None:
                rejects.append(Reject(task.key, task.path, summary.reason, summary.detail))
            else:
                dropped += [Reject(task.key, task.path, "clip_dropped", detail) for detail in summary.dropped]
                for example in examples_of(job, waveforms(job)):
                    writer.write(example)
        side = writer.finish(rejects=rejects, dropped=dropped, video_hashes=hashes)
    output.deliver(side)
    return side


def examples_of(job: Job[Any], waveforms: Iterable[NDArray[np.int16]]) -> Iterator[Example]:
    """The clips of one complete video, in order."""
    task, summary = job.task, job.summary
    assert summary is not None
    for clip, waveform in zip(job.clips, waveforms, strict=True):
        head = clip.head
        assert clip.posteriors is not None
        yield Example(
            key=clip_key(task.key, head.index),
            waveform=waveform,
            posteriors=clip.posteriors,
            frames=head.jpegs,
            meta=ClipMeta(
                video=task.key,
                path=task.path,
                video_bytes=summary.bytes,
                video_sha256=summary.sha256,
                clip=head.index,
                start=round(head.start, 6),
                seconds=round(head.seconds, 6),
                frame_asked=[round(time, 6) for time in head.asked],
                frame_got=[round(time, 6) for time in head.got],
                still=head.still,
                tail_seconds_cut=round(summary.tail_seconds_cut, 6),
                decode_errors=summary.decode_errors,
            ),
        )


def settle(settings: PipelineSettings, output: Output, plan: Plan, *, alone: bool) -> None:
    """The account of all inputs; from the rank that ends last, the page too. Raises ContractError for many rejects."""
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
