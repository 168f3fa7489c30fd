"""Another teacher set beside finished shards: stored frame times are read again, waveforms are not rewritten."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.job import DecodeTask, VideoJob, Waveforms
from pipeline.executor.resources import Resources, heads_of
from pipeline.output.destination import Output, spool
from pipeline.output.progress import Progress
from pipeline.output.ranks import FolderLease, Rank
from pipeline.report import write_report
from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet
from pipeline.videos.fetch import within_reach
from pipeline.videos.listing import root_of
from shards.cli.command import command
from shards.errors import ContractError, UserError
from shards.format.example import video_of
from shards.format.manifest import Manifest
from shards.format.shard import metas
from shards.format.sidefile import SideFile, side_files
from shards.format.writer import ShardWriter

log = logging.getLogger("pipeline")


@dataclass
class RelabelSettings(Resources):
    """Settings of `make relabel`. `videos` is the folder or list that the shards were made from."""

    videos: str = field(kw_only=True, metadata={"example": "/my/videos"})  # a path, or any fsspec URL
    shards: str = field(kw_only=True, metadata={"example": "outputs/shards/mine"})
    teachers: TeacherSet = field(kw_only=True)
    work: Path = Path("outputs/work")  # where labels for a URL are made, before they are sent


def run(settings: RelabelSettings) -> None:
    """Write teachers/<set>/<shard>.tar for every finished shard that lacks it. Raises UserError.

    The set has a manifest of its own: with precision=auto its first run chooses, and later ones follow it.
    """
    root, name, rank = root_of(settings.videos), settings.teachers.name, Rank(job="relabel")
    teacher_cards = cards(settings.teachers)
    shards = Output.at(settings.shards, settings.work)
    labels = shards.beside(f"teachers/{name}")
    if not shards.is_remote:
        Manifest.load(shards.folder)  # before anything is written into a folder that is none of shards
    with FolderLease(shards.folder, rank) as lease, Progress(shards.folder / rank.log_name) as progress:
        with lease.turn():
            shards.pull()
        manifest = Manifest.load(shards.folder)
        if name == manifest.teacher_set:
            raise UserError(f"{settings.shards} was made with teachers={name}: nothing to add")
        labels.folder.mkdir(parents=True, exist_ok=True)
        labels.pull()
        labels.clear()
        precision = settings.precision_of(labels.manifest)
        relabelled = replace(manifest, teacher_set=name, teachers=teacher_cards, precision=precision)
        labels.agree_on(relabelled, f"Delete {labels.location} to label again with other weights or precision.")
        videos = {side.shard: len({video_of(key) for key in side.keys}) for side in side_files(shards.folder)}
        todo = [shard for shard in videos if videos[shard] and not (labels.folder / f"{shard}.json").exists()]
        if not todo:
            log.info("%s: labels of all %d finished shards stand already", labels.location, len(videos))
            return
        progress.start(total=sum(videos[shard] for shard in todo), shards=len(todo))
        with (
            spool(shards.folder, rank.name) as place,
            settings.start(
                root=within_reach(root, place),
                spool=place,
                clip=manifest.clip,
                heads=heads_of(settings.teachers, teacher_cards),
                reading=DecodeSettings(),
                keep_frames=False,
                precision=precision,
            ) as executor,
        ):
            write = partial(write_labels, shards, labels)
            for side in executor.shards(tasks_of(shards, todo), write, progress.video_done):
                progress.shard_done(side)
        log.info("%s: labels of %d shards stand", labels.location, len(videos))
        page = write_report(shards.folder, shards.tars)
        shards.push(page.name)
        log.info("a page to look at: %s", page)


def tasks_of(output: Output, shards: Iterable[str]) -> Iterator[DecodeTask]:
    """One task a video, with the times of the frames that its clips were labelled by."""
    number = 0
    for shard in shards:
        side = SideFile.load(output.folder / f"{shard}.json")
        for key, group in groupby(metas(output.tars or output.folder, side), key=lambda meta: meta.video):
            video = list(group)
            times = [meta.frame_got for meta in video]
            yield DecodeTask(side.shard, video[0].path, key, number, times, video[0].video_sha256)
            number += 1


def write_labels(shards: Output, labels: Output, shard: str, jobs: Iterable[VideoJob[Any]], _: Waveforms) -> SideFile:
    """One tar of labels, with the keys and member names of the shard it belongs to. Raises ContractError."""
    side = SideFile.load(shards.folder / f"{shard}.json")
    clips = zip(side.keys, side.samples, strict=True)
    with closing(ShardWriter(labels.folder, shard, sample_rate=0)) as writer:
        for job in jobs:
            if job.result is not None and job.result.reason is not None:
                raise ContractError(
                    f"{job.task.path} cannot be labelled again: {job.result.reason}: {job.result.detail}. "
                    "videos=... must hold the very files that the shards were made from; finished shards stay"
                )
            for clip in job.clips:
                key, samples = next(clips)
                assert clip.posteriors is not None
                writer.write_labels(key, samples, clip.posteriors)
        written = writer.finish()
    labels.deliver(written)
    return written


if __name__ == "__main__":
    command(RelabelSettings, "relabel", run)
