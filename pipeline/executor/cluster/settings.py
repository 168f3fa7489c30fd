"""How a Ray cluster is found, and how its CPUs and GPUs are dealt out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RaySettings:
    """The conf block `ray`. None of it changes a result, but for the kind of device."""

    address: str = (
        "local"  # local: a cluster on this machine, for this run; auto: the one this machine is in; host:port
    )
    cpus_per_decoder: float = 1.0
    cpus_per_teacher: float = 1.0
    gpus_per_teacher: float = 1.0  # 0.25: four teachers share a GPU
    shards: int = 0  # under way at once; 0: one for each 4 decoders, and at least 2
    videos: int = 8  # of each shard, under way at once
    clips: int = 64  # of each shard, decoded and not labelled yet; from there on no further video is begun

    def __post_init__(self) -> None:
        if min(self.cpus_per_decoder, self.gpus_per_teacher) <= 0 or self.cpus_per_teacher < 0 or self.shards < 0:
            raise ValueError(
                "ray.cpus_per_decoder and ray.gpus_per_teacher are above 0, the other numbers not below it"
            )
        if self.gpus_per_teacher > 1:
            raise ValueError(
                f"ray.gpus_per_teacher is at most 1, not {self.gpus_per_teacher:g}: a teacher has one device"
            )
        if self.videos < 1 or self.clips < 1:
            raise ValueError("ray.videos and ray.clips are at least 1")
