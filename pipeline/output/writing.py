"""A shard, written from its complete videos: each clip an example, each rejected video a row of the side file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.decode_task import NO_ROOM
from pipeline.executor.job import VideoJob, Waveforms
from pipeline.output.destination import Output
from shards.errors import UserError
from shards.format.example import ClipMeta, Example, clip_key
from shards.format.sidefile import Reject, SideFile
from shards.format.writer import ShardWriter


def write_shard(
    output: Output, sample_rate: int, audio: str, shard: str, jobs: Iterable[VideoJob[Any]], waveforms: Waveforms
) -> SideFile:
    """One tar and its side file, from videos in plan order."""
    output.folder.mkdir(parents=True, exist_ok=True)  # on another machine, there may be no working folder yet
    writer = ShardWriter(output.folder, shard, sample_rate=sample_rate, audio=audio)
    rejects: list[Reject] = []
    dropped: list[Reject] = []
    hashes: dict[str, str] = {}
    with closing(writer):
        for job in jobs:
            task, summary = job.task, job.result
            assert summary is not None
            if summary.reason == NO_ROOM:
                raise UserError(f"{summary.detail}: make room and run the same command again; finished shards stay")
            if summary.sha256:
                hashes[task.key] = summary.sha256
            if summary.reason is not None:
                rejects.append(Reject(task.key, task.path, summary.reason, summary.detail))
            else:
                dropped += [Reject(task.key, task.path, "clip_dropped", detail) for detail in summary.dropped]
                for example in examples_of(job, waveforms(job)):
                    writer.write(example)
        side = writer.finish(rejects=rejects, dropped=dropped, video_hashes=hashes)
    output.deliver(side)
    return side


def examples_of(job: VideoJob[Any], waveforms: Iterable[NDArray[np.int16]]) -> Iterator[Example]:
    """The clips of one complete video, in order."""
    task, summary = job.task, job.result
    assert summary is not None
    for clip, waveform in zip(job.clips, waveforms, strict=True):
        head = clip.record
        assert clip.posteriors is not None
        yield Example(
            key=clip_key(task.key, head.index),
            waveform=waveform,
            posteriors=clip.posteriors,
            frames=head.jpegs,
            meta=ClipMeta(
                video=task.key,
                path=task.path,
                video_bytes=summary.bytes,
                video_sha256=summary.sha256,
                clip=head.index,
                start=round(head.start, 6),
                seconds=round(head.seconds, 6),
                frame_asked=[round(time, 6) for time in head.asked],
                frame_got=[round(time, 6) for time in head.got],
                still=head.still,
                tail_seconds_cut=round(summary.tail_seconds_cut, 6),
                decode_errors=summary.decode_errors,
            ),
        )
