"""What is measured of stage one: planning and resuming a long list, labelling many small videos, decoding, teachers."""

from __future__ import annotations

import multiprocessing
import resource
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torchvision

from evaluate.bench.readers import exact
from pipeline.executor.cluster.executor import ClusterExecutor
from pipeline.executor.job import DecodeTask
from pipeline.executor.local import LocalExecutor
from pipeline.executor.resources import heads_of
from pipeline.executor.teacher_worker import TeacherConfig, Teachers
from pipeline.output.account import account_of
from pipeline.output.agreement import make_plan, unfinished
from pipeline.output.destination import spool
from pipeline.output.faults import FaultLimit
from pipeline.output.progress import Progress
from pipeline.output.ranks import FolderLease
from pipeline.output.writing import write_shard
from pipeline.run import RejectLimit, run, tasks_of
from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.precision import fastest_precision
from pipeline.teachers.timm_models import input_transform
from pipeline.videos.listing import find_videos
from pipeline.videos.plan import Plan, ShardPlan
from shards.cli.command import compose
from shards.format.clip import ClipSpec
from shards.format.example import MediaAccount, clip_key
from shards.format.sidefile import SideFile

LOOK_SECONDS = 0.02
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


def label_all(videos: Path, shards: Path) -> int:
    """Stage one from beginning to end on the CPU. Returns bytes of the tars."""
    run(settings_of(videos, shards, "device=cpu", "shard_size.videos=64"))
    return sum(tar.stat().st_size for tar in shards.glob("*.tar"))


def decode_all(videos: Path, workers: int) -> None:
    """Every video read by the reader of stage one, in so many processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(exact, sorted(videos.iterdir())))


def label_frames(device: str, batches: int, batch: int = 32) -> int:
    """The teachers alone, on random pictures. Returns the frames labelled."""
    settings = settings_of(Path("."), Path("."))
    heads = heads_of(settings.teachers, cards(settings.teachers))
    views = list(dict.fromkeys(input_transform(spec).view for spec, _ in heads.values()))
    teachers = Teachers(TeacherConfig(heads, views, ClipSpec(), fastest_precision(device), threads=1), device)
    for pictures in _pictures(views[0].crop, batches, batch):
        teachers.label([[pictures] * len(views)])
    return batches * batch


def _pictures(side: int, batches: int, batch: int) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    random = np.random.default_rng(0)
    for _ in range(batches):
        yield random.integers(0, 256, (batch, side, side, 3), np.uint8)


@dataclass(frozen=True)
class Labelled:
    """One run: CPU seconds, and the share of the time until the last video was begun in which decoders slept."""

    clips: int
    own_seconds: float
    child_seconds: float
    waiting_share: float


class Watch(threading.Thread):
    """Looks at the decode processes until it is told to stop: each sleeps, or is at work."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self._looks = self._asleep = 0

    def run(self) -> None:
        while not self.stopped.wait(LOOK_SECONDS):
            for process in multiprocessing.active_children():
                if process.name == "run_decode_worker":
                    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
                    self._looks += 1
                    self._asleep += state == "S"

    @property
    def share(self) -> float:
        return self._asleep / max(self._looks, 1)


def label(videos: Path, shards: Path, network: Path, audio: str, decoders: int, watched: bool) -> Labelled:
    """The executor of stage one from the first task to the last shard, with a teacher that costs next to nothing."""
    settings = settings_of(videos, shards, *network_words(network), f"audio={audio}", f"decoders={decoders}")
    plan, watch = planned(settings), Watch()

    def tasks() -> Iterator[DecodeTask]:
        if watched:
            watch.start()
        yield from tasks_of(plan.shards)
        watch.stopped.set()

    with (
        Progress(shards / "pipeline.log") as progress,
        spool(shards, "bench") as place,
        start(settings, place) as executor,
    ):
        faults = FaultLimit()
        write = partial(write_shard, settings.output, settings.clip.sample_rate, audio, faults)
        before = time.process_time()
        sides = list(executor.shards(tasks(), write, RejectLimit(progress, 0.0, faults).on_video))
        used = time.process_time() - before
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    clips = sum(len(side.keys) for side in sides)
    return Labelled(clips, used, children.ru_utime + children.ru_stime, watch.share)


def start(settings: PipelineSettings, place: Path) -> LocalExecutor | ClusterExecutor:
    return settings.start(
        root=settings.videos,
        spool=place,
        clip=settings.clip,
        heads=heads_of(settings.teachers, cards(settings.teachers)),
        reading=settings.reading,
        audio=settings.audio,
        keep_frames=settings.keep_frames,
        precision="float32",
    )


def write_network(folder: Path) -> None:
    """A small network with random weights and a thousand classes: where clips go and what they cost are the same."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=1000).state_dict(), folder / "weights.pth")
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(1000)))


def network_words(folder: Path) -> list[str]:
    head = {"architecture": "shufflenet_v2_x0_5", "weights": folder / "weights.pth", "classes": folder / "classes.txt"}
    words = [f"teachers.heads.objects.{name}={value}" for name, value in head.items()]
    return [*words, "teachers.name=small", "device=cpu", "teacher_processes=1", "validation_share=0"]
