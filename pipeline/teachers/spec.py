"""Which teachers label the videos: for each head a network, its weights, its input transform and its class names.

These are the dataclasses behind conf/teachers. Nothing here needs torch, so that decode workers start light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipeline.decoder.crop import Interpolation, ResizeCrop

IMAGENET = "imagenet"

CHANNELS = ("rgb", "bgr")
TIMM = "timm/"  # before the name of a network of timm
OPEN_CLIP = "open_clip/"  # before that of an image-text network of open_clip
PLACE = "{}"  # of a class's name in a template


@dataclass(frozen=True)
class Transform:
    """A picture's way into a network: geometry, and mean and std on the 0-255 scale in the order of `channels`."""

    resize: int  # pixels of the shorter side
    crop: int  # side of the centre crop, pixels
    channels: str  # rgb | bgr
    mean: list[float]
    std: list[float]
    interpolation: Interpolation  # bicubic | bilinear, as the release was tested with

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"a transform crops at most what it resizes to: crop {self.crop}, resize {self.resize}")
        if self.channels not in CHANNELS:
            raise ValueError(f"channels are {' or '.join(CHANNELS)}, not {self.channels!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std hold 3 numbers, std above 0: mean {self.mean}, std {self.std}")

    @property
    def view(self) -> ResizeCrop:
        return ResizeCrop(resize=self.resize, crop=self.crop, interpolation=self.interpolation)


@dataclass
class TeacherSpec:
    """One teacher.

    `architecture` is a network of torchvision, `timm/<name>`, or `open_clip/<name>:<release>`.
    `weights` is a release of torchvision (`IMAGENET1K_V1`), `timm` or `open_clip` for what that would download,
    `package:<module>` for weights inside an installed package, or the path of a file: a PyTorch checkpoint,
    `.safetensors`, or a `.caffemodel` of a VGG.
    `transform` of None is timm's or open_clip's own for this network.
    `classes` is a list file, `imagenet` for torchvision's 1000 names, or None for those of the release or of timm.
    `templates` are the sentences by which an image-text network is told a class, `{}` standing for its name.
    """

    architecture: str
    weights: str
    transform: Transform | None = None
    classes: str | None = None
    templates: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.architecture or not self.weights:
            raise ValueError(
                f"a teacher needs an architecture and weights, not {self.architecture!r}, {self.weights!r}"
            )
        if self.transform is None and not self.architecture.startswith((TIMM, OPEN_CLIP)):
            raise ValueError(
                f"{self.architecture} needs a transform: only networks of timm and open_clip bring their own"
            )
        if self.architecture.startswith(OPEN_CLIP) != bool(self.templates):
            raise ValueError(
                f"{self.architecture} has templates {self.templates}: networks of {OPEN_CLIP} need some, as `a "
                "photo of a {}.`, and others take none"
            )
        if wrong := [text for text in self.templates if PLACE not in text]:
            raise ValueError(f"the template {wrong[0]!r} has no {PLACE} where the class's name goes")


@dataclass
class TeacherSet:
    """The teachers of a shard folder by head. A head set to None (`teachers.heads.scenes=null`) is switched off."""

    name: str  # the set's name, in shards and for teacher_set=
    # the teacher of each head; teachers.heads.scenes=null switches one off
    heads: dict[str, TeacherSpec | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"a teacher set's name becomes a folder (letters, digits, _ and -), not {self.name!r}")
        for head in self.heads:
            # A head becomes the member `key.<head>.npy`; a dot would split it.
            if not re.fullmatch(r"[a-z][a-z0-9_]*", head):
                raise ValueError(f"a head's name is lower case letters, digits and _, not {head!r}")
        if not self.active:
            raise ValueError(f"teacher set {self.name} has no head switched on")

    @property
    def active(self) -> dict[str, TeacherSpec]:
        """The heads that are switched on, in their order."""
        return {head: spec for head, spec in self.heads.items() if spec is not None}
