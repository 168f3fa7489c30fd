"""A shard, or its labels alone, from its complete videos: each clip an example, each rejected video a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from pipeline.executor.decode_task import NO_ROOM
from pipeline.executor.job import ClipMembers, DecodeResult, Members, VideoJob
from pipeline.output.destination import Output
from pipeline.output.faults import FaultLimit
from shards.errors import UserError
from shards.format.example import ClipMeta, EncodedExample, MediaAccount, clip_key
from shards.format.sidefile import Reject, SideFile
from shards.format.writer import ShardWriter


def write_shard(
    output: Output,
    sample_rate: int,
    audio: str,
    limit: FaultLimit,
    shard: str,
    jobs: Iterable[VideoJob[Any]],
    members: Members,
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
                for example in examples_of(job, members(job)):
                    writer.write(example)
        side = writer.finish(rejects=rejects, dropped=dropped, media=media, video_hashes=hashes)
    output.deliver(side)
    return side


def write_labels(
    shards: Output, labels: Output, limit: FaultLimit, shard: str, jobs: Iterable[VideoJob[Any]], _: Members
) -> SideFile:
    """One tar of labels, with the keys and member names of the shard it belongs to. Raises UserError.

    Where a video fails, nothing is written: the side file that is returned has no keys, and the rejects.
    """
    side = SideFile.load(shards.folder / f"{shard}.json")
    clips = zip(side.keys, side.samples, strict=True)
    rejects: list[Reject] = []
    with closing(ShardWriter(labels.folder, shard, sample_rate=0)) as writer:
        for job in limit.watched(shard, jobs):
            task, result = job.task, job.result
            assert result is not None
            require_room(result)
            if result.reason is not None:
                rejects.append(Reject(task.key, task.path, result.reason, result.detail))
            for clip in job.clips if not rejects else ():
                key, samples = next(clips)
                assert clip.posteriors is not None
                writer.write_labels(key, samples, clip.posteriors)
        if rejects:
            nothing: dict[str, Any] = {"keys": [], "samples": [], "windows": [], "members": {}, "checksums": {}}
            return replace(side, **nothing, posterior_sums={}, tar_bytes=0, tar_sha256="", rejects=rejects)
        written = writer.finish()
    labels.deliver(written)
    return written


def require_room(result: DecodeResult) -> None:
    """Raise UserError where a disk is full, for which no video is to blame."""
    if result.reason == NO_ROOM:
        raise UserError(f"{result.detail}: make room and run the same command again; finished shards stay")


def examples_of(job: VideoJob[Any], members: Iterable[ClipMembers]) -> Iterator[EncodedExample]:
    """The clips of one complete video, in order."""
    task, result = job.task, job.result
    assert result is not None
    for clip, encoded in zip(job.clips, members, strict=True):
        record = clip.record
        assert clip.posteriors is not None and record.sound is not None
        yield EncodedExample(
            key=clip_key(task.key, record.index),
            sound=encoded.sound,
            facts=record.sound,
            posteriors=clip.posteriors,
            frames=encoded.frames,
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
