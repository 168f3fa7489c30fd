"""One run of stage one's executor, with a small teacher: what it costs, and how long decoders wait."""

from __future__ import annotations

import multiprocessing
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision

from evaluate.bench.workloads import planned, settings_of
from pipeline.executor.cluster.executor import ClusterExecutor
from pipeline.executor.job import DecodeTask
from pipeline.executor.local import LocalExecutor
from pipeline.executor.resources import heads_of
from pipeline.output.faults import FaultLimit
from pipeline.output.progress import Progress
from pipeline.output.writing import write_shard
from pipeline.run import RejectLimit, tasks_of
from pipeline.settings import PipelineSettings
from pipeline.teachers.cards import cards
from pipeline.teachers.words import with_text

LOOK_SECONDS = 0.02


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
        Progress(settings.output, settings.as_rank) as progress,
        settings.spooling(settings.clip) as place,
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
        heads=heads_of(settings.teachers, with_text(settings.teachers, cards(settings.teachers))),
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
