"""The settings of `make teacher-shards`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.resources import Resources
from pipeline.output.destination import Output
from pipeline.output.folder_lock import Rank
from pipeline.teachers.spec import TeacherSet
from pipeline.videos.plan import ShardPolicy, Size
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import Manifest, TeacherCard
from shards.media.waveform import RESAMPLER

WIDEST_JPEG = 65_500  # pixels, of libjpeg


@dataclass
class PipelineSettings(Resources):
    """The first block is recorded in the manifest and may not change later."""

    # a folder of videos, or a .csv or .txt list of them; a path or any fsspec URL
    videos: str = field(kw_only=True, metadata={"example": "/my/videos"})
    # the folder for the shards; a path or any fsspec URL
    shards: str = field(kw_only=True, metadata={"example": "outputs/shards/mine"})
    teachers: TeacherSet = field(kw_only=True)  # the vision networks that look at the frames
    clip: ClipSpec = field(default_factory=ClipSpec)  # the length of a clip and its labels
    reading: DecodeSettings = field(default_factory=DecodeSettings)
    audio: str = "wav"  # how sound is stored: wav, or flac (smaller, and slower to read)
    keep_frames: bool = True  # keep the frames that were labelled, as a JPEG in each clip
    # share of the videos that is held out; the paper has 140,000 of 2,140,000
    validation_share: float = 140_000 / 2_140_000
    seed: int = 0  # seed of the split

    shard_size: Size = field(default_factory=Size)
    max_reject_share: float = 0.5  # stop where more than this share of the videos is rejected
    retry_rejected: bool = False  # read the videos again that an earlier run has rejected
    rank: int = 0  # number of this run, from 0: it makes every world-th shard from this one on
    world: int = 1  # runs that share the work, as in an array job
    work: Path = Path("outputs/work")  # folder where shards for a URL are made before they are sent

    def __post_init__(self) -> None:
        if self.audio not in ("wav", "flac"):
            raise ValueError(f"audio is wav or flac, not {self.audio}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share is at least 0 and under 1, not {self.validation_share}")
        if self.retry_rejected and self.world > 1:  # each rank that starts would begin another retry
            raise ValueError(
                "retry_rejected=true adds to the plan, so it must run with world=1: run it once so, then start the "
                "ranks without it"
            )
        _ = self.as_rank

    @property
    def policy(self) -> ShardPolicy:
        return ShardPolicy(self.shard_size, self.validation_share, self.seed)

    def manifest(self, cards: dict[str, TeacherCard], precision: str) -> Manifest:
        """What all shards of this run have in common, with the cards of its teachers and what they compute in.

        Raises UserError where a clip's frames do not fit into one picture.
        """
        sampling, tolerance = self.reading.sampling, self.reading.tolerance
        width = self.clip.frames * next(iter(cards.values())).transform["crop"]
        if self.keep_frames and width > WIDEST_JPEG:
            raise UserError(
                f"the {self.clip.frames} frames of a clip side by side are {width} pixels wide, a JPEG holds "
                f"{WIDEST_JPEG}: say keep_frames=false, or take fewer windows or frames_per_window"
            )
        return Manifest(
            clip=self.clip,
            teacher_set=self.teachers.name,
            teachers=cards,
            precision=precision,
            audio=self.audio,
            resampler=RESAMPLER,
            sampling=f"cheapest within {tolerance:g} s" if sampling == "tolerance" else sampling,
            keep_frames=self.keep_frames,
            validation_share=self.validation_share,
            seed=self.seed,
        )

    @property
    def as_rank(self) -> Rank:
        return Rank(self.rank, self.world)

    @property
    def output(self) -> Output:
        return Output.at(self.shards, self.work)
