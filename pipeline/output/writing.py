"""A shard, written from its complete videos: each clip an example, each rejected video a row of the side file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.decode_task import NO_ROOM
from pipeline.executor.job import DecodeResult, VideoJob, Waveforms
from pipeline.output.destination import Output
from pipeline.output.faults import FaultLimit
from shards.errors import UserError
from shards.format.example import ClipMeta, Example, MediaAccount, clip_key
from shards.format.sidefile import Reject, SideFile
from shards.format.writer import ShardWriter


def write_shard(
    output: Output,
    sample_rate: int,
    audio: str,
    limit: FaultLimit,
    shard: str,
    jobs: Iterable[VideoJob[Any]],
    waveforms: Waveforms,
) -> SideFile:
    """One tar and its side file, from videos in plan order. Raises UserError where the machine is at fault."""
    output.folder.mkdir(parents=True, exist_ok=True)  # on another machine, there may be no working folder yet
    rejects: list[Reject] = []
    dropped: list[Reject] = []
    hashes: dict[str, str] = {}
    media: dict[str, MediaAccount] = {}
    with closing(ShardWriter(output.folder, shard, sample_rate=sample_rate, audio=audio)) as writer:
        for job in limit.watched(shard, jobs):
            task, result = job.task, job.result
            assert result is not None
            require_room(result)
            if result.sha256:
                hashes[task.key] = result.sha256
            if result.reason is not None:
                rejects.append(Reject(task.key, task.path, result.reason, result.detail))
            else:
                media[task.name] = result.media
                dropped += [Reject(task.key, task.path, "clip_dropped", detail) for detail in result.dropped]
                for example in examples_of(job, waveforms(job)):
                    writer.write(example)
        side = writer.finish(rejects=rejects, dropped=dropped, media=media, video_hashes=hashes)
    output.deliver(side)
    return side


def require_room(result: DecodeResult) -> None:
    """Raise UserError where a disk is full, for which no video is to blame."""
    if result.reason == NO_ROOM:
        raise UserError(f"{result.detail}: make room and run the same command again; finished shards stay")


def examples_of(job: VideoJob[Any], waveforms: Iterable[NDArray[np.int16]]) -> Iterator[Example]:
    """The clips of one complete video, in order."""
    task, result = job.task, job.result
    assert result is not None
    for clip, waveform in zip(job.clips, waveforms, strict=True):
        record = clip.record
        assert clip.posteriors is not None
        yield Example(
            key=clip_key(task.key, record.index),
            waveform=waveform,
            posteriors=clip.posteriors,
            frames=record.frames,
            meta=ClipMeta(
                video=task.key,
                path=task.path,
                video_bytes=result.bytes,
                video_sha256=result.sha256,
                clip=record.index,
                start=round(record.start, 6),
                seconds=round(record.seconds, 6),
                frame_asked=[round(time, 6) for time in record.asked],
                frame_got=[round(time, 6) for time in record.got],
                still=record.still,
                media=result.media,
                decode_errors=result.decode_errors,
                given=task.given,
            ),
        )
