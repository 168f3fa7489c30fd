"""The executor on a cluster: the driver keeps a bounded number of shard tasks under way, and starts the teachers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from pipeline.executor.cluster.session import RaySettings, connected, import_ray
from pipeline.executor.cluster.workers import RETRIES, ClusterConfig, TeacherActor
from pipeline.executor.job import DecodeResult, DecodeTask, OnVideo, Write
from pipeline.executor.teacher_worker import TeacherConfig
from shards.errors import UserError
from shards.format.sidefile import SideFile

Result = TypeVar("Result")


@dataclass(frozen=True)
class ClusterAllocation:
    """How the cluster's CPUs and GPUs are divided."""

    device: str
    teachers: int
    shards: int  # under way at once

    @classmethod
    def of(cls, ray: RaySettings, *, device: str, teachers: int, cpus: float, gpus: float) -> ClusterAllocation:
        """`teachers` is 0 for as many as the GPUs hold, or one for each two CPUs. Raises UserError."""
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        room = int(gpus) * int(1 / ray.gpus_per_teacher) if device == "cuda" else int(cpus)
        if device == "cuda" and not room:
            raise UserError(f"device={device}, but the Ray cluster has no CUDA device: use device=cpu")
        teachers = teachers or (room if device == "cuda" else max(1, int(cpus) // 2))
        if teachers > room:
            raise UserError(
                f"teacher_processes={teachers}, but the Ray cluster has room for {room} on its "
                f"{gpus:g} GPUs and {cpus:g} CPUs: give teacher_processes a smaller value"
            )
        decoders = int((cpus - teachers * ray.cpus_per_teacher) / ray.cpus_per_decoder)
        if decoders < 1:
            raise UserError(
                f"the Ray cluster has {cpus:g} CPUs: {teachers} teachers with ray.cpus_per_teacher="
                f"{ray.cpus_per_teacher:g} leave no room for a decoder with ray.cpus_per_decoder="
                f"{ray.cpus_per_decoder:g}; give teacher_processes or either share a smaller value"
            )
        return cls(device, teachers, ray.shards or max(2, -(-decoders // 4)))


class ClusterExecutor:
    """Labels shards on a cluster. Use as a context."""

    def __init__(
        self, config: ClusterConfig, labelling: TeacherConfig, *, device: str, teachers: int, cpus: int
    ) -> None:
        self._config, self._labelling = config, labelling
        self._device, self._wanted, self._cpus = device, teachers, cpus
        self._stack = ExitStack()

    def __enter__(self) -> ClusterExecutor:
        with ExitStack() as stack:
            stack.enter_context(connected(self._config.ray.address, self._cpus))
            self._start_teachers()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_teachers(self) -> None:
        ray, settings = import_ray(), self._config.ray
        there = ray.cluster_resources()
        cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
        self._allocation = ClusterAllocation.of(
            settings, device=self._device, teachers=self._wanted, cpus=cpus, gpus=gpus
        )
        # A teacher that dies is always started again; a batch that keeps killing it ends the run.
        actor = ray.remote(
            num_cpus=settings.cpus_per_teacher,
            num_gpus=settings.gpus_per_teacher if self._allocation.device.startswith("cuda") else 0,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )(TeacherActor)
        arguments = (self._labelling, self._allocation.device, self._config.home, self._config.stall_seconds)
        self._teachers = [actor.remote(*arguments) for _ in range(self._allocation.teachers)]
        for loaded in [teacher.ready.remote().future() for teacher in self._teachers]:
            result_of(loaded)

    def shards(self, tasks: Iterable[DecodeTask], write: Write, on_video: OnVideo) -> Iterator[SideFile]:
        """Have each shard written on the cluster; `on_video` is called for its videos when it stands."""
        from pipeline.executor.cluster.shard import make_shard  # which imports Ray

        ray = import_ray()
        make = ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")(make_shard)
        upcoming = (list(members) for _, members in groupby(tasks, key=lambda task: task.shard))
        under_way: set[Future[tuple[SideFile, list[tuple[str, DecodeResult]]]]] = set()
        while True:
            while len(under_way) < self._allocation.shards and (members := next(upcoming, None)):
                under_way.add(make.remote(members, self._config, self._teachers, write).future())
            if not under_way:
                return
            ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ready:
                side, results = result_of(future)
                for path, result in results:
                    on_video(path, result)
                yield side


def result_of(future: Future[Result]) -> Result:
    """What a task returned. Raises what it raised, or UserError for what befell the cluster.

    Futures are waited for, and not Ray's own references: a signal's exception passes through them.
    """
    ray = import_ray()
    try:
        return future.result()
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        while isinstance(cause, ray.exceptions.RayTaskError):  # a task that another task waited for
            cause = cause.cause
        if isinstance(cause, ray.exceptions.RayError):
            raise UserError(failure(cause)) from None
        raise cause from None
    except ray.exceptions.RayError as error:
        raise UserError(failure(error)) from None


def failure(error: Exception) -> str:
    message = " ".join(str(error).split())[:300]
    if type(error).__name__.startswith("Actor"):
        message += " (a teacher that makes no progress for stall_seconds is ended too)"
    return f"the Ray cluster gave up: {type(error).__name__}: {message}. Finished shards stay; the same command goes on"
