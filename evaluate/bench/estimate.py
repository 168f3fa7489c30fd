"""The estimate: measured rates times two million videos, in core-hours, GPU-hours, terabytes and dollars."""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3600.0


@dataclass(frozen=True)
class Lake:
    """The videos to be worked through. The paper: over two million, more than a year of sound (section 1)."""

    videos: int = 2_000_000
    seconds: float = 31.5e6  # of all of them together


@dataclass(frozen=True)
class Rates:
    """As measured here."""

    decode_cpu_seconds: float  # CPU seconds for a second of film, frames and sound
    teacher_seconds: float  # of one core or of the GPU, for a frame
    frames_per_second: float  # labelled frames for a second of film
    bytes_per_second: float  # of a shard, for a second of film
    on_gpu: bool  # the teachers


@dataclass(frozen=True)
class Prices:
    """In dollars; a cloud's list prices of its cheaper kinds, to be replaced by your own."""

    core_hour: float = 0.04
    gpu_hour: float = 2.5
    terabyte_month: float = 20.0


@dataclass(frozen=True)
class Estimate:
    decode_core_hours: float
    teacher_core_hours: float
    teacher_gpu_hours: float
    terabytes: float
    dollars: float  # once, and the storage of one month

    @property
    def core_hours(self) -> float:
        return self.decode_core_hours + self.teacher_core_hours


def estimate(lake: Lake, rates: Rates, prices: Prices) -> Estimate:
    """Stage one over the whole lake."""
    decode = lake.seconds * rates.decode_cpu_seconds / HOUR
    teacher = lake.seconds * rates.frames_per_second * rates.teacher_seconds / HOUR
    on_cores, on_gpus = (0.0, teacher) if rates.on_gpu else (teacher, 0.0)
    terabytes = lake.seconds * rates.bytes_per_second / 1e12
    dollars = (decode + on_cores) * prices.core_hour + on_gpus * prices.gpu_hour + terabytes * prices.terabyte_month
    return Estimate(decode, on_cores, on_gpus, terabytes, dollars)
