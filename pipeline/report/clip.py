"""One clip as it is shown: its frames over its sound, and what each teacher saw in each window."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.report.sample import SampledShard, TeacherHead
from pipeline.report.sound import outline, playable, spectrogram
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta
from shards.format.members import DamagedExample
from shards.format.sidefile import split_of_shard

TOP = 5
QUALITY = 90  # of a frame that is cut out to be shown
WIDTH, HEIGHT = 1_000, 60  # of the waveform's drawing


@dataclass(frozen=True)
class Window:
    """One label window: when it is in the clip (seconds), and its frames as (address, seconds in the media)."""

    start: float
    end: float
    frames: list[tuple[str, float]]


@dataclass(frozen=True)
class TopClasses:
    """A teacher's top classes of each window, as (name, posterior)."""

    teacher: TeacherHead
    windows: list[list[tuple[str, float]]]


@dataclass(frozen=True)
class ClipView:
    """All that the page needs to show of a clip. Addresses are data: URLs, so that the page stands alone."""

    key: str
    split: str
    meta: ClipMeta
    windows: list[Window]
    top_classes: list[TopClasses]
    audio: str
    spectrogram: str
    outline: str


def clip_view(shard: SampledShard, clip: int, spec: ClipSpec) -> ClipView:
    """The clip with this number in the shard. Raises DamagedExample where it is not what the side file says."""
    example = shard.example(clip, spec.sample_rate)
    labels = shard.posteriors(clip)
    count = len(labels[0][1])
    length = len(example.waveform) / spec.sample_rate / count
    times = example.meta.frame_got
    jpegs = cut_frames(example.frames, len(times))
    frames = [(data_url("image/jpeg", jpeg), time) for jpeg, time in zip(jpegs, times, strict=False)]
    each = spec.frames_per_window
    media_type, sound = playable(example.waveform, spec.sample_rate)
    return ClipView(
        key=example.key,
        split=split_of_shard(shard.shard),
        meta=example.meta,
        windows=[
            Window(index * length, (index + 1) * length, frames[index * each : (index + 1) * each])
            for index in range(count)
        ],
        top_classes=[
            TopClasses(head, [top_classes(row, head.card.classes) for row in array]) for head, array in labels
        ],
        audio=data_url(media_type, sound),
        spectrogram=data_url("image/png", spectrogram(example.waveform, spec.sample_rate)),
        outline=outline(example.waveform, width=WIDTH, height=HEIGHT),
    )


def cut_frames(strip: bytes, count: int) -> list[bytes]:
    """The JPEGs of a clip's `count` frames, which lie side by side in `strip`; none where it is empty.

    Raises DamagedExample where it is no picture of so many.
    """
    if not strip:
        return []
    jpegs = []
    try:
        with Image.open(io.BytesIO(strip), formats=["JPEG"]) as picture:
            width, height = picture.size
            if not count or width % count:
                raise ValueError(f"{count} frames do not lie in {width} columns")
            for left in range(0, width, width // count):
                frame = io.BytesIO()
                picture.crop((left, 0, left + width // count, height)).save(frame, "JPEG", quality=QUALITY)
                jpegs.append(frame.getvalue())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedExample(f"its frames cannot be read: {error}") from None
    return jpegs


def top_classes(posterior: NDArray[np.float16], classes: tuple[str, ...]) -> list[tuple[str, float]]:
    """The TOP classes of one window (classes,), the likeliest first."""
    order = np.argsort(-posterior.astype(np.float32), kind="stable")[:TOP]
    return [(classes[index], float(posterior[index])) for index in order]


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"
