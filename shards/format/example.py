"""One example: the sound of a clip beside what the teachers saw in it. This is what travels between the stages."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shards.media.levels import SILENCE

# In the json of each clip, whatever its video had: a program that reads a tar as a table takes the columns of the first
# clips for those of all.
LEFT_OUT = ("before_common_start", "behind_break", "dropped_clip", "no_frame", "no_sound", "tail", "unread")
REPAIRED = (
    *("broken_stamps", "clock_breaks", "stamps_smoothed", "gaps_filled", "gap_seconds", "overlap_seconds"),
    *("non_finite_samples", "clipped_samples", "frames_concealed", "mono_of_left_channel", "cancelled_seconds"),
)


@dataclass(frozen=True)
class MediaAccount:
    """Where the seconds of a media file went: seconds = in_clips + the sum of left_out, to the millisecond.

    `left_out` maps reasons to seconds: before_common_start (only one of sound and picture had begun), tail (less than
    a label window), no_sound and no_frame (only the other goes on), dropped_clip, behind_break (the clock leapt over
    them), unread (the container promises, or holds, more than was read). `repaired` counts what was mended on the way.
    """

    seconds: float = 0.0  # that the container promises, or that were found where it promises fewer
    in_clips: float = 0.0
    left_out: dict[str, float] = field(default_factory=dict)
    repaired: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: MediaAccount) -> MediaAccount:
        left_out, repaired = (
            {name: ours.get(name, 0.0) + theirs.get(name, 0.0) for name in {**ours, **theirs}}
            for ours, theirs in ((self.left_out, other.left_out), (self.repaired, other.repaired))
        )
        return MediaAccount(self.seconds + other.seconds, self.in_clips + other.in_clips, left_out, repaired)

    def __str__(self) -> str:
        """In words, to the tenth of a second."""
        parts = [f"{seconds:.1f} s {reason}" for reason, seconds in sorted(self.left_out.items()) if seconds >= 0.05]
        return " + ".join([f"{self.seconds:.1f} s = {self.in_clips:.1f} s in clips", *parts])

    @property
    def is_mostly_unused(self) -> bool:
        """Whether less than half of the file came into clips."""
        return self.in_clips < self.seconds / 2

    def rounded(self) -> MediaAccount:
        """To the millisecond, as it is stored."""
        left_out = {reason: round(seconds, 3) for reason, seconds in sorted(self.left_out.items())}
        repaired = {what: round(count, 3) for what, count in sorted(self.repaired.items())}
        return MediaAccount(round(self.seconds, 3), round(self.in_clips, 3), left_out, repaired)


@dataclass(frozen=True)
class ClipMeta:
    """Where a clip comes from, as kept in `key.json`. No absolute path, time or host: reruns are byte-identical.

    Times are seconds on the media's own timeline; `frame_asked` and `frame_got` have one entry per sampled frame.
    """

    video: str  # the video's key
    path: str  # relative to the input folder
    video_bytes: int
    video_sha256: str
    clip: int  # position of the clip in its video
    start: float
    seconds: float
    frame_asked: list[float]
    frame_got: list[float]
    still: bool = False  # it has several frames, and they are one and the same picture
    media: MediaAccount = field(default_factory=MediaAccount)  # of the whole video, the same in each of its clips
    decode_errors: int = 0  # of the whole video
    peak_db: float = SILENCE  # of its sound, in dBFS, as `levels` has it; the writer of a shard puts it here
    rms_db: float = SILENCE
    given: dict[str, str] = field(default_factory=dict)  # what the list of videos said of it, by column

    def __post_init__(self) -> None:
        times = [self.start, self.seconds, *self.frame_asked, *self.frame_got]
        if not all(isinstance(time, int | float) and math.isfinite(time) for time in times):
            raise ValueError(f"clip {self.clip} of {self.video!r} has a time that is no number")
        if not all(isinstance(level, int | float) and SILENCE <= level <= 0 for level in (self.peak_db, self.rms_db)):
            raise ValueError(f"clip {self.clip} of {self.video!r}: {self.peak_db}, {self.rms_db} are no levels in dBFS")
        if not is_given(self.given):
            raise ValueError(f"what is given of {self.video!r} is no text by name: {self.given!r}")
        if not isinstance(self.media, MediaAccount):
            raise ValueError(f"the account of {self.video!r} is none: {self.media!r}")
        if not all(isinstance(text, str) for text in (self.video, self.path, self.video_sha256)):
            raise ValueError(f"video, path and video_sha256 are text, not {self.video!r}, {self.path!r}")

    @property
    def is_silent(self) -> bool:
        return self.peak_db == SILENCE

    def to_json(self) -> str:
        """Its fields; reasons and repairs that do not occur in the video stand there with 0."""
        left_out = dict.fromkeys(LEFT_OUT, 0.0) | self.media.left_out
        repaired = dict.fromkeys(REPAIRED, 0.0) | {what: float(count) for what, count in self.media.repaired.items()}
        media = replace(self.media, left_out=left_out, repaired=repaired)
        return json.dumps(asdict(replace(self, media=media)), sort_keys=True)

    @classmethod
    def of_json(cls, text: bytes | str) -> ClipMeta:
        """The way back. Raises ValueError, TypeError, KeyError or AttributeError for other text."""
        fields = json.loads(text)
        media = fields["media"]
        parts = {
            part: {name: count for name, count in media[part].items() if count} for part in ("left_out", "repaired")
        }
        return cls(**{**fields, "media": MediaAccount(**{**media, **parts})})


@dataclass(frozen=True)
class Example:
    """key, waveform int16 (samples,), posteriors {head: float16 (windows, classes)}, frames to look at, origin."""

    key: str
    waveform: NDArray[np.int16]
    posteriors: dict[str, NDArray[np.float16]]
    meta: ClipMeta
    frames: bytes = b""  # a JPEG of all frames side by side, in order; empty where they are not kept

    def __post_init__(self) -> None:
        _require_labels(self.key, self.posteriors)
        if self.waveform.dtype != np.int16 or self.waveform.ndim != 1 or not len(self.waveform):
            raise ValueError(f"{self.key}: waveform must be int16 (samples,), not {_shape(self.waveform)}")


@dataclass(frozen=True)
class SoundFacts:
    """What a shard says of a clip's sound, beside the member that holds it."""

    samples: int
    checksum: int  # of the samples, as `members.checksum` has it
    peak_db: float  # dBFS, as `levels` has it
    rms_db: float


@dataclass(frozen=True)
class EncodedExample:
    """An example whose sound is a member of a tar already; the levels in its json are put there by the writer."""

    key: str
    sound: bytes
    facts: SoundFacts
    posteriors: dict[str, NDArray[np.float16]]
    meta: ClipMeta
    frames: bytes = b""

    def __post_init__(self) -> None:
        _require_labels(self.key, self.posteriors)


def _require_labels(key: str, posteriors: dict[str, NDArray[np.float16]]) -> None:
    """Raise ValueError for a key that cannot be one, and for posteriors that fit no windows."""
    if not key or "." in key or "/" in key:
        raise ValueError(f"a key holds no dot and no slash and is not empty: {key!r}")
    for head, posterior in posteriors.items():
        if posterior.dtype != np.float16 or posterior.ndim != 2:
            raise ValueError(f"{key}: {head} must be float16 (windows, classes), not {_shape(posterior)}")
    windows = {head: len(posterior) for head, posterior in posteriors.items()}
    if len(set(windows.values())) > 1 or 0 in windows.values():
        raise ValueError(f"{key}: the heads disagree on the number of windows: {windows}")


def is_given(value: object) -> bool:
    """Whether this is {name: text}."""
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _shape(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.shape}"


def clip_key(video_key: str, clip: int) -> str:
    """`<video key>-00007`; the last dash always parts the two."""
    return f"{video_key}-{clip:05d}"


def video_of(key: str) -> str:
    """The key of the video that a clip's key belongs to: the way back from `clip_key`."""
    return key.rpartition("-")[0]
