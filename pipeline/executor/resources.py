"""Which executor does the work, and how much of this machine it may use. None of it is recorded with the shards."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.cluster.executor import ClusterExecutor
from pipeline.executor.cluster.session import RaySettings
from pipeline.executor.cluster.workers import ClusterConfig
from pipeline.executor.decode_task import DecodeConfig, spooling
from pipeline.executor.local import LocalConfig, LocalExecutor
from pipeline.executor.teacher_worker import TeacherConfig
from pipeline.teachers.network import input_transform
from pipeline.teachers.precision import Precision, cpu_has_bfloat16, fastest_precision, require_precision
from pipeline.teachers.spec import TeacherSet, TeacherSpec
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import Manifest, TeacherCard

log = logging.getLogger("pipeline")
SPOOL_BYTES = 16e9
DECODERS_A_WRITER = 32
LEAST_SECONDS = 600  # of sound, int16, that the spool must have room for, for each decoder


@dataclass
class Resources:
    """Settings shared by every command of stage one that decodes and labels."""

    executor: Literal["local", "ray"] = "local"  # local: this machine; ray: a Ray cluster (extra `ray`)
    device: str = "auto"  # cpu, cuda, cuda:1, ...; auto: every GPU there is, else the CPU
    # what teachers compute in; auto: as the labels already there, else bfloat16 where the device has it
    precision: Precision = "auto"
    decoders: int = 0  # decode processes; 0: one for each core
    teacher_processes: int = 0  # teacher processes; 0: one for each GPU, or for each two cores of a CPU
    batch_clips: int = 8  # clips that a teacher labels at once
    # gigabytes of decoded clips that wait on disk for their shard, at most; 0: 16, or half of what is free
    spool_gigabytes: float = 0.0
    # seconds without progress after which a decode process is replaced, or the run stops because of a teacher
    stall_seconds: float = 60.0
    memory_gigabytes: float = 4.0  # memory that a decode process may take for one video
    # folder for decoded clips, and videos from URLs, under way; null: the system's temporary folder
    spool: Path | None = None
    ray: RaySettings = field(default_factory=RaySettings)

    def precision_of(self, labels: Manifest | None) -> str:
        """float32 or bfloat16: as it was set; for `auto` as the manifest of earlier labels says; else the fastest.

        Raises UserError where a device of this machine cannot compute in it; nodes of a cluster find out by themselves.
        """
        if self.executor == "local":
            device = self._devices()[0]
        else:  # of the machine this runs on, whatever its workers have: the manifest is written before they start
            device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        chosen: str = self.precision
        if chosen == "auto":
            chosen = fastest_precision(device) if labels is None else labels.precision
        if self.executor == "local":
            require_precision(chosen, device)
        return chosen

    def spooling(self, clip: ClipSpec) -> AbstractContextManager[Path]:
        """This run's own folder for what waits on its way into a shard. Raises UserError, also without some room."""
        decoders = 0 if self.executor == "ray" else self.decoders or _cores()  # on a cluster, they have their own
        return spooling(self.spool, decoders * LEAST_SECONDS * clip.sample_rate * 2)

    def start(
        self,
        *,
        root: str,
        spool: Path,
        clip: ClipSpec,
        heads: dict[str, tuple[TeacherSpec, TeacherCard]],
        reading: DecodeSettings,
        audio: str | None,
        keep_frames: bool,
        precision: str,
    ) -> LocalExecutor | ClusterExecutor:
        """Start the processes. Raises UserError where the machine has not what the settings ask for."""
        crops = list(dict.fromkeys(input_transform(spec).view for spec, _ in heads.values()))
        decoding = DecodeConfig(root, spool, clip, crops, reading, audio, keep_frames, self.memory_gigabytes)
        labelling = TeacherConfig(heads, crops, clip, precision, threads=1)
        if self.executor == "ray":
            return self._on_ray(decoding, labelling)
        devices = self._devices()
        if precision == "bfloat16" and devices[0] == "cpu" and not cpu_has_bfloat16():
            log.warning("the labels are in bfloat16, which this CPU has no instructions for: it takes longer")
        decoders = self.decoders or _cores()
        config = LocalConfig(
            devices=devices,
            decoders=decoders,
            writers=1 + decoders // DECODERS_A_WRITER,
            batch_clips=self.batch_clips,
            spool_bytes=self.spool_gigabytes * 1e9 or min(SPOOL_BYTES, shutil.disk_usage(spool).free / 2),
            stall_seconds=self.stall_seconds,
        )
        return LocalExecutor(decoding, labelling, config)

    def _on_ray(self, decoding: DecodeConfig, labelling: TeacherConfig) -> ClusterExecutor:
        for name in ("decoders", "spool_gigabytes"):
            if getattr(self, name):
                raise UserError(
                    f"{name}={getattr(self, name):g} works with executor=local only; with executor=ray the cluster's "
                    "CPUs and ray.cpus_per_decoder decide how many videos are decoded at once, and ray.clips how many "
                    "clips wait"
                )
        config = ClusterConfig(
            home=Path.cwd(),
            decoding=decoding,
            ray=self.ray,
            spool=self.spool,
            stall_seconds=self.stall_seconds,
            batch_clips=self.batch_clips,
        )
        teachers = self.teacher_processes
        return ClusterExecutor(config, labelling, device=self.device, teachers=teachers, cpus=_cores())

    def _devices(self) -> list[str]:
        """One entry a teacher process."""
        gpus = torch.cuda.device_count()
        kinds = [f"cuda:{index}" for index in range(gpus)] if self.device in ("auto", "cuda") else [self.device]
        if self.device == "auto":
            kinds = kinds or ["cpu"]
        if not kinds or (kinds[0].startswith("cuda") and not gpus):
            raise UserError(f"device={self.device}, but this machine has no CUDA device: use device=cpu")
        # One thread each: several small processes keep more of a CPU busy than one with many threads.
        wanted = self.teacher_processes or (max(1, _cores() // 2) if kinds == ["cpu"] else len(kinds))
        return [kinds[index % len(kinds)] for index in range(wanted)]


def heads_of(teachers: TeacherSet, cards: dict[str, TeacherCard]) -> dict[str, tuple[TeacherSpec, TeacherCard]]:
    return {head: (spec, cards[head]) for head, spec in teachers.active.items()}


def _cores() -> int:
    """Cores this process may run on, which in a container or a batch job are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
