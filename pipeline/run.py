"""Stage one: videos -> plan -> decoded clips -> teachers' posteriors -> shards. The assembly, read top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decoder import Task
from pipeline.folder import Account, account_for, exclusive, spool, write_rejects
from pipeline.frames import Reading
from pipeline.job import Job, Outcome, Waveforms
from pipeline.keys import clip_key
from pipeline.plan import Dealing, Plan, ShardPlan, Size
from pipeline.progress import Progress
from pipeline.report import write_report
from pipeline.resources import Resources, heads_of
from pipeline.sources import find_videos, root_of
from pipeline.teachers import TeacherSet, cards
from shards.clip import ClipSpec
from shards.example import ClipMeta, Example
from shards.manifest import NAME as MANIFEST
from shards.manifest import ContractError, Manifest, TeacherCard, require_same
from shards.sidefile import Reject, SideFile, finished
from shards.waveform import RESAMPLER
from shards.writer import ShardWriter

log = logging.getLogger("pipeline")
JUDGED_FROM = 100  # inputs after which max_reject_share is looked at while the run goes on


@dataclass
class PipelineSettings(Resources):
    """Settings of `make teacher-shards`. The first block is recorded in the manifest and may not change later."""

    videos: Path = field(kw_only=True)
    shards: Path = field(kw_only=True)
    teachers: TeacherSet = field(kw_only=True)
    clip: ClipSpec = field(default_factory=ClipSpec)
    reading: Reading = field(default_factory=Reading)
    audio: str = "wav"
    keep_frames: bool = True
    validation_share: float = 140_000 / 2_140_000  # section 4: 2,000,000 videos to train on, 140,000 held out
    seed: int = 0

    shard_size: Size = field(default_factory=Size)
    max_reject_share: float = 0.5
    retry_rejected: bool = False

    def __post_init__(self) -> None:
        if self.audio not in ("wav", "flac"):
            raise ValueError(f"audio is wav or flac, not {self.audio}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share is at least 0 and under 1, not {self.validation_share}")


def run(settings: PipelineSettings) -> None:
    """Make the shards, or go on where a killed run stopped. Raises ContractError."""
    Path(root_of(str(settings.videos)))
    teacher_cards = cards(settings.teachers)  # missing weights stop the run before any video is touched
    with exclusive(settings.shards), Progress(settings.shards / "pipeline.log") as progress:
        agree_on_manifest(settings, teacher_cards)
        plan = make_plan(settings)
        todo = unfinished(settings.shards, plan)
        if todo:
            label_shards(settings, teacher_cards, todo, progress)
        account = settle(settings, plan)
        log.info("%s", account)
        log.info("a page to look at: %s", write_report(settings.shards))


def agree_on_manifest(settings: PipelineSettings, teacher_cards: dict[str, TeacherCard]) -> None:
    """Write the manifest on the first run; on every later one, be equal to it."""
    reading = settings.reading
    manifest = Manifest(
        clip=settings.clip,
        teacher_set=settings.teachers.name,
        teachers=teacher_cards,
        audio=settings.audio,
        resampler=RESAMPLER,
        sampling=f"tolerance {reading.tolerance:g} s" if reading.sampling == "tolerance" else reading.sampling,
        keep_frames=settings.keep_frames,
        validation_share=settings.validation_share,
        seed=settings.seed,
    )
    if not (settings.shards / MANIFEST).exists():
        manifest.save(settings.shards)
        return
    found = Manifest.load(settings.shards)
    if found.teacher_set != manifest.teacher_set:
        raise ContractError(
            f"{settings.shards} was labelled by teachers={found.teacher_set}, this run has teachers="
            f"{manifest.teacher_set}. Another set is added beside it: `make relabel videos={settings.videos} "
            f"shards={settings.shards} teachers={manifest.teacher_set}`"
        )
    remedy = "Use the settings the shards were made with, or another folder (shards=...)."
    require_same(asdict(manifest), asdict(found), str(settings.shards), remedy)


def make_plan(settings: PipelineSettings) -> Plan:
    """Finish an unfinished plan first; add what is new; on request, take up what was rejected."""
    plan = Plan.load(settings.shards)
    dealing = Dealing(settings.shard_size, settings.validation_share, settings.seed)
    hashes = {key: digest for side in finished(settings.shards) for key, digest in side.video_hashes.items()}
    rows, duplicates = plan.extend(find_videos(str(settings.videos)), hashes, dealing)
    retrying = any(shard.retry for shard in unfinished(settings.shards, plan))
    if settings.retry_rejected and not retrying:  # a killed retry is finished, not begun anew
        account = account_for(plan, finished(settings.shards), settings.clip.sample_rate)
        rejected = {reject.key for reject in account.rejects}
        rows += plan.retry((video for video in plan.videos if video.key in rejected), dealing, after=rows)
    plan.append(settings.shards, rows, duplicates)
    splits = {shard.split for shard in plan.shards}
    for empty in sorted({"train", "validation"} - splits):
        share = settings.validation_share
        log.warning("no video fell into %s: %d videos, validation_share=%.3g", empty, len(list(plan.videos)), share)
    return plan


def unfinished(folder: Path, plan: Plan) -> list[ShardPlan]:
    done = {path.stem for path in folder.glob("*.json") if path.with_suffix(".tar").exists()}
    return [shard for shard in plan.shards if shard.shard not in done]


def label_shards(
    settings: PipelineSettings,
    teacher_cards: dict[str, TeacherCard],
    todo: list[ShardPlan],
    progress: Progress,
) -> None:
    """Decode and label the videos of all unfinished shards, and write each shard when its last video is complete."""
    tasks = (
        Task(shard.shard, video.path, video.key, number)
        for number, (shard, video) in enumerate((shard, video) for shard in todo for video in shard.videos)
    )
    progress.start(total=sum(len(shard.videos) for shard in todo), shards=len(todo))
    with (
        spool(settings.shards) as place,
        settings.start(
            root=Path(root_of(str(settings.videos))),
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
            "pipeline.log and rejects.jsonl beside the shards. Finished shards stay; mend the input, or raise the share"
        )


def write_shard(settings: PipelineSettings, shard: str, jobs: Iterable[Job[Any]], waveforms: Waveforms) -> SideFile:
    """One tar and its side file, from videos in plan order."""
    writer = ShardWriter(settings.shards, shard, sample_rate=settings.clip.sample_rate, audio=settings.audio)
    rejects: list[Reject] = []
    dropped: list[Reject] = []
    hashes: dict[str, str] = {}
    with closing(writer):
        for job in jobs:
            task, summary = job.task, job.summary
            assert summary is not None
            if summary.sha256:
                hashes[task.key] = summary.sha256
            if summary.reason is not None:
                rejects.append(Reject(task.key, task.path, summary.reason, summary.detail))
            else:
                dropped += [Reject(task.key, task.path, "clip_dropped", detail) for detail in summary.dropped]
                for example in examples_of(job, waveforms(job)):
                    writer.write(example)
        return writer.finish(rejects=rejects, dropped=dropped, video_hashes=hashes)


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


def settle(settings: PipelineSettings, plan: Plan) -> Account:
    """The account of all inputs, once every shard is finished. Raises ContractError where too many were rejected."""
    account = account_for(plan, finished(settings.shards), settings.clip.sample_rate)
    write_rejects(settings.shards, account.rejects)
    require_share(len(account.rejects), account.inputs, settings.max_reject_share)
    return account
