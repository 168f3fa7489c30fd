"""What is measured of stage one: planning and resuming a long list, labelling many small videos, decoding, teachers."""

from __future__ import annotations

import resource
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluate.bench.cost import cpu_seconds
from pipeline.executor import teacher_worker
from pipeline.executor.resources import heads_of
from pipeline.executor.teacher_worker import TeacherConfig
from pipeline.output.account import account_of
from pipeline.output.agreement import make_plan, unfinished
from pipeline.output.folder_lock import FolderLease
from pipeline.run import run
from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.network import input_transform
from pipeline.teachers.words import with_text
from pipeline.videos.listing import find_videos
from pipeline.videos.plan import Plan, ShardPlan
from shards.cli.command import compose
from shards.format.clip import ClipSpec
from shards.format.example import MediaAccount, clip_key
from shards.format.sidefile import SideFile

BATCH, WARM_UP = 32, 2  # frames of eight clips; batches before anything is measured
TEACHERS = "efficientnet_lite0"  # its weights are in a package that `make setup` has installed


def settings_of(videos: Path, shards: Path, *overrides: str) -> PipelineSettings:
    words = [f"videos={videos}", f"shards={shards}", f"teachers={TEACHERS}", *overrides]
    return compose(PipelineSettings, "pipeline", words)


def write_list(path: Path, rows: int) -> None:
    """A list of URLs such as a large corpus has; nobody asks for them."""
    with open(path, "w") as stream:
        stream.write("path\n")
        stream.writelines(f"https://lake.example/{row % 1000:03d}/video-{row:08d}.mp4\n" for row in range(rows))


def plan_list(videos: Path, shards: Path) -> int:
    """Plan the list as a first run does. Returns the number of shards."""
    return len(planned(settings_of(videos, shards)).shards)


def finish_shards(shards: Path, share: float) -> int:
    """Side files for so many of the planned shards, as if they had been labelled: a clip for each video."""
    plan = Plan.load(shards)
    done = plan.shards[: round(share * len(plan.shards))]
    for shard in done:
        _pretend(shard).save(shards)
        (shards / f"{shard.shard}.tar").touch()
    return len(done)


def _pretend(shard: ShardPlan) -> SideFile:
    keys = [video.key for video in shard.videos]
    extensions = ("wav", "json", "objects.npy", "scenes.npy")
    return SideFile(
        shard=shard.shard,
        tar_bytes=10**9,
        tar_sha256="0" * 64,
        keys=[clip_key(key, 0) for key in keys],
        samples=[ClipSpec().samples] * len(keys),
        windows=[4] * len(keys),
        peak_db=[-12.34] * len(keys),
        rms_db=[-23.45] * len(keys),
        given=[{}] * len(keys),
        members={extension: [(10**9 - 1000, 900_000)] * len(keys) for extension in extensions},
        checksums={extension: [2**32 - 1] * len(keys) for extension in extensions if extension != "json"},
        posterior_sums={"objects": [0.123456789] * 1000, "scenes": [0.123456789] * 365},
        rejects=[],
        dropped=[],
        media=MediaAccount(),
        mostly_unused=[],
        video_hashes={key: f"{number:064x}" for number, key in enumerate(keys)},
        libraries={},
    )


def resume_list(videos: Path, shards: Path) -> int:
    """What a run does before it touches a video, and its account at the end. Returns the shards left."""
    settings = settings_of(videos, shards)
    plan = planned(settings)
    left = unfinished(shards, plan.shards)
    account = account_of(shards, settings.clip)
    assert account.waiting == sum(shard.count for shard in left)
    return len(left)


def planned(settings: PipelineSettings) -> Plan:
    with FolderLease(settings.output.folder, settings.as_rank) as lease, lease.turn():
        settings.output.pull()
        return make_plan(
            settings.output,
            lease,
            find_videos(settings.videos),
            policy=settings.policy,
            reading=settings.reading,
            clip=settings.clip,
            retry_rejected=settings.retry_rejected,
        )


def write_copies(film: Path, folder: Path, count: int) -> None:
    """The film under many names, each with a `free` box of its own behind it: other bytes, the same video."""
    folder.mkdir(parents=True)
    data = film.read_bytes()
    for number in range(count):
        (folder / f"{number:05d}.mp4").write_bytes(data + struct.pack(">I4sI", 12, b"free", number))


def label_all(videos: Path, shards: Path, *overrides: str) -> int:
    """Stage one from beginning to end on the CPU. Returns bytes of the tars."""
    run(settings_of(videos, shards, "device=cpu", "shard_size.videos=64", *overrides))
    return sum(tar.stat().st_size for tar in shards.glob("*.tar"))


@dataclass(frozen=True)
class FrameCost:
    """Of a frame that is labelled. `seconds` are of the wall: what a GPU is taken up for."""

    seconds: float
    cpu_seconds: float
    page_faults: float


def label_frames(device: str, precision: str, batches: int, keeps_memory: bool = True) -> FrameCost:
    """The teachers alone, on random pictures, in one thread."""
    if not keeps_memory:
        vars(teacher_worker).update(keep_freed_memory=lambda: None)  # this process is measured and ends
    settings = settings_of(Path("."), Path("."))
    heads = heads_of(settings.teachers, with_text(settings.teachers, cards(settings.teachers)))
    views = list(dict.fromkeys(input_transform(spec).view for spec, _ in heads.values()))
    teachers = teacher_worker.Teachers(TeacherConfig(heads, views, ClipSpec(), precision, threads=1), device)
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, views[0].crop, views[0].crop, 3), np.uint8)
    for _ in range(WARM_UP):
        teachers.label([[pictures] * len(views)])
    begun, used, faults = time.monotonic(), cpu_seconds(), page_faults()
    for _ in range(batches):
        teachers.label([[pictures] * len(views)])
    spent = time.monotonic() - begun, cpu_seconds() - used, page_faults() - faults
    return FrameCost(*(each / (batches * BATCH) for each in spent))


def page_faults() -> int:
    """That were served without the disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
