"""Another teacher set beside finished shards: stored frame times are read again, waveforms are not rewritten."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.job import DecodeTask
from pipeline.executor.resources import Resources, heads_of
from pipeline.output.destination import Output
from pipeline.output.faults import FaultLimit
from pipeline.output.folder_lock import FolderLease, Rank
from pipeline.output.progress import Progress
from pipeline.output.writing import write_labels
from pipeline.report import write_report
from pipeline.run import RejectLimit
from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet
from pipeline.teachers.words import with_text
from pipeline.videos.fetch import within_reach
from pipeline.videos.listing import root_of
from pipeline.videos.plan import NAME as PLAN
from pipeline.videos.plan import Plan
from shards.cli.words import amount
from shards.errors import UserError
from shards.format.example import video_of
from shards.format.manifest import Manifest, TeacherCard
from shards.format.shard import metas
from shards.format.sidefile import Reject, SideFile
from shards.storage import is_remote

log = logging.getLogger("pipeline")
NAMED = 5  # shards that lack labels


@dataclass
class RelabelSettings(Resources):
    """Settings of `make relabel`. `videos` is the folder or list that the shards were made from."""

    # the folder or list that the shards were made from
    videos: str = field(kw_only=True, metadata={"example": "/my/videos"})
    # the folder of shards to label; a path or any fsspec URL
    shards: str = field(kw_only=True, metadata={"example": "outputs/shards/mine"})
    teachers: TeacherSet = field(kw_only=True)  # the vision networks that look at the frames
    reading: DecodeSettings = field(default_factory=DecodeSettings)
    max_reject_share: float = 0.5  # stop where more than this share of the videos cannot be read again
    rank: int = 0  # number of this run, from 0: it labels every world-th shard from this one on
    world: int = 1  # runs that share the work, as in an array job
    work: Path = Path("outputs/work")  # folder where labels for a URL are made before they are sent

    def __post_init__(self) -> None:
        if self.reading.sampling != "exact":
            raise ValueError("relabel must read the frames that were labelled before: leave reading.sampling at exact")
        _ = self.as_rank

    @property
    def as_rank(self) -> Rank:
        return Rank(self.rank, self.world, job="relabel")


def run(settings: RelabelSettings) -> None:
    """Write teachers/<set>/<shard>.tar for every finished shard that lacks it. Raises UserError.

    The set has a manifest of its own: with precision=auto its first run chooses, and later ones follow it. A video that
    cannot be read any more, or is another by now, costs the labels of its shard and no others, and is named.
    """
    root, rank, name = root_of(settings.videos), settings.as_rank, settings.teachers.name
    teacher_cards = cards(settings.teachers)
    shards = Output.at(settings.shards, settings.work)
    labels = shards.beside(f"teachers/{name}")
    if not shards.is_remote:
        Manifest.load(shards.folder)  # before anything is written into a folder that is none of shards
    with FolderLease(shards.folder, rank) as lease, Progress(shards, rank) as progress:
        shards.fetch()
        with lease.turn():
            shards.pull()
            lease.agree({"videos": os.path.abspath(root) if not is_remote(root) else root, "teachers": name})
            manifest = relabelled(settings, shards, labels, teacher_cards)
        plan = Plan.load(shards.folder)
        if not plan.shards:
            raise UserError(f"{settings.shards} holds no {PLAN}: run the command that made its shards once more")
        part = [shard.shard for shard in rank.part(plan.shards)]
        labels.clear(None if rank.world == 1 else part)
        todo = unlabelled(shards, labels, part)
        if not todo:
            log.info("%s: labels of all finished shards stand already", labels.location)
            return
        lacking = label_shards(settings, manifest, shards, labels, todo, root, progress)
        with lease.turn():
            if not lease.others():
                labels.pull()
                page = write_report(shards.folder, shards.tars)
                shards.push(page.name)
                log.info("a page to look at: %s", page)
        log.info("%s: labels made of %s", labels.location, amount(len(todo) - len(lacking), "shard"))
        if lacking:
            raise UserError(without_labels(labels, lacking))


def relabelled(settings: RelabelSettings, shards: Output, labels: Output, cards: dict[str, TeacherCard]) -> Manifest:
    """The manifest of the set, which the first run writes. Raises UserError where it is another. Call it in a turn."""
    manifest, name = Manifest.load(shards.folder), settings.teachers.name
    if name == manifest.teacher_set:
        raise UserError(f"{settings.shards} was made with teachers={name}: nothing to add")
    labels.folder.mkdir(parents=True, exist_ok=True)
    labels.pull()
    precision = settings.precision_of(labels.manifest)
    complete = with_text(settings.teachers, cards, labels.manifest)
    mine = replace(manifest, teacher_set=name, teachers=complete, precision=precision)
    labels.agree_on(mine, f"Delete {labels.location} to label again with other weights or precision.")
    return mine


def unlabelled(shards: Output, labels: Output, part: Iterable[str]) -> dict[str, int]:
    """{shard: its videos} of the finished shards of this part that have clips, and no labels yet."""
    todo: dict[str, int] = {}
    for shard in part:
        side = shards.folder / f"{shard}.json"
        if side.exists() and not (labels.folder / f"{shard}.json").exists():
            videos = len({video_of(key) for key in SideFile.load(side).keys})
            todo |= {shard: videos} if videos else {}
    return todo


def label_shards(
    settings: RelabelSettings,
    manifest: Manifest,
    shards: Output,
    labels: Output,
    todo: dict[str, int],
    root: str,
    progress: Progress,
) -> dict[str, list[Reject]]:
    """Write the labels of all these shards. Returns those that lack them still, with the videos that are to blame."""
    progress.start(total=sum(todo.values()), shards=len(todo))
    lacking = {}
    with (
        settings.spooling(manifest.clip) as place,
        settings.start(
            root=within_reach(root, place),
            spool=place,
            clip=manifest.clip,
            heads=heads_of(settings.teachers, manifest.teachers),
            reading=settings.reading,
            audio=None,
            keep_frames=False,
            precision=manifest.precision,
        ) as executor,
    ):
        faults = FaultLimit(is_off=settings.max_reject_share >= 1, has_read=True)
        limit = RejectLimit(progress, settings.max_reject_share, faults)
        write = partial(write_labels, shards, labels, faults)
        for side in executor.shards(tasks_of(shards, todo), write, limit.on_video):
            if side.rejects:
                lacking[side.shard] = side.rejects
                log.warning("%s: its labels are not written: %d of its videos failed", side.shard, len(side.rejects))
            else:
                progress.shard_done(side)
    return lacking


def without_labels(labels: Output, lacking: dict[str, list[Reject]]) -> str:
    """The line that a relabel ends with where shards lack labels."""
    named = [
        f"{shard} ({rejects[0].path!r}: {rejects[0].reason}: {rejects[0].detail}"
        + (f", and {len(rejects) - 1} more)" if len(rejects) > 1 else ")")
        for shard, rejects in list(lacking.items())[:NAMED]
    ]
    more = f" and {len(lacking) - NAMED} more, named in the log" if len(lacking) > NAMED else ""
    return (
        f"{labels.location} lacks labels of {amount(len(lacking), 'shard')}: {', '.join(named)}{more}. "
        "videos=... must hold the very files that the shards were made from: bring them back, and the same command "
        "goes on; other labels stand"
    )


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
