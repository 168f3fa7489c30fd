"""Another teacher set beside finished shards: stored frame times are read again, waveforms are not rewritten."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.decoder import Task
from pipeline.fetch import within_reach
from pipeline.folder import spool
from pipeline.frames import Reading
from pipeline.job import Job, Waveforms
from pipeline.keys import video_of
from pipeline.progress import Progress
from pipeline.ranks import Rank, Seat
from pipeline.report import write_report
from pipeline.resources import Resources, heads_of
from pipeline.sources import root_of
from pipeline.teachers import TeacherSet, cards
from shards.location import is_remote
from shards.manifest import NAME as MANIFEST
from shards.manifest import ContractError, Manifest, require_same
from shards.shard import metas
from shards.sidefile import SideFile, finished
from shards.writer import ShardWriter

log = logging.getLogger("pipeline")


@dataclass
class RelabelSettings(Resources):
    """Settings of `make relabel`. `videos` is the folder or list that the shards were made from."""

    videos: str = field(kw_only=True, metadata={"example": "/my/videos"})  # a path, or any fsspec URL
    shards: str = field(kw_only=True, metadata={"example": "outputs/shards/mine"})
    teachers: TeacherSet = field(kw_only=True)


def run(settings: RelabelSettings) -> None:
    """Write teachers/<set>/<shard>.tar for every finished shard that lacks it. Raises ContractError."""
    if is_remote(settings.shards):
        raise ContractError(
            f"shards={settings.shards} cannot be relabelled where they are: copy them to this machine, relabel there, "
            "and copy teachers/ back"
        )
    shards, root = Path(settings.shards).expanduser(), root_of(settings.videos)
    manifest = Manifest.load(shards)
    if settings.teachers.name == manifest.teacher_set:
        raise ContractError(f"{shards} was made with teachers={manifest.teacher_set}: nothing to add")
    teacher_cards = cards(settings.teachers)
    folder, rank = shards / "teachers" / settings.teachers.name, Rank(job="relabel")
    with Seat(shards, rank), Progress(shards / "pipeline.log") as progress:
        relabelled = replace(manifest, teacher_set=settings.teachers.name, teachers=teacher_cards)
        agree_on_manifest(folder, relabelled)
        videos = {side.shard: len({video_of(key) for key in side.keys}) for side in finished(shards)}
        todo = [shard for shard in videos if videos[shard] and not (folder / f"{shard}.json").exists()]
        if not todo:
            log.info("%s: labels of all %d finished shards stand already", folder, len(videos))
            return
        progress.start(total=sum(videos[shard] for shard in todo), shards=len(todo))
        with (
            spool(shards, rank.name) as place,
            settings.start(
                root=within_reach(root, place),
                spool=place,
                clip=manifest.clip,
                heads=heads_of(settings.teachers, teacher_cards),
                reading=Reading(),
                keep_frames=False,
            ) as executor,
        ):
            write = partial(write_labels, shards, folder)
            for side in executor.shards(tasks_of(shards, todo), write, progress.video_done):
                progress.shard_done(side)
        log.info("%s: labels of %d shards stand", folder, len(videos))
        log.info("a page to look at: %s", write_report(shards))


def agree_on_manifest(folder: Path, manifest: Manifest) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).exists():
        manifest.save(folder)
        return
    remedy = f"Delete {folder} to label again with other weights."
    require_same(asdict(manifest), asdict(Manifest.load(folder)), str(folder), remedy)


def tasks_of(folder: Path, shards: Iterable[str]) -> Iterator[Task]:
    """One task a video, with the times of the frames that its clips were labelled by."""
    number = 0
    for shard in shards:
        side = SideFile.load(folder / f"{shard}.json")
        for key, clips in groupby(metas(folder, side), key=lambda meta: meta.video):
            video = list(clips)
            times = [meta.frame_got for meta in video]
            yield Task(side.shard, video[0].path, key, number, times, video[0].video_sha256)
            number += 1


def write_labels(shards: Path, folder: Path, shard: str, jobs: Iterable[Job[Any]], _: Waveforms) -> SideFile:
    """One tar of labels, with the keys and member names of the shard it belongs to."""
    side = SideFile.load(shards / f"{shard}.json")
    clips = zip(side.keys, side.samples, strict=True)
    with closing(ShardWriter(folder, shard, sample_rate=0)) as writer:
        for job in jobs:
            if job.summary is not None and job.summary.reason is not None:
                raise ContractError(
                    f"{job.task.path} cannot be labelled again: {job.summary.reason}: {job.summary.detail}. "
                    "videos=... must hold the very files that the shards were made from; finished shards stay"
                )
            for clip in job.clips:
                key, samples = next(clips)
                assert clip.posteriors is not None
                writer.write_labels(key, samples, clip.posteriors)
        return writer.finish()
