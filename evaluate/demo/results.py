"""The results of a demo: its held-out videos, the probe of its network and the evidence, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from evaluate.probe.compare import Comparison, compared
from evaluate.probe.scores import Score, Scores
from shards.errors import UserError

EVIDENCE, PICTURE = "evidence.json", "evidence.png"  # of `make evidence`


@dataclass(frozen=True)
class Distance:
    """How far three predictions are from the teacher: KL divergence in nats, averaged over a video's clips."""

    video: str
    clips: int
    student: float
    mean: float  # the training set's mean posterior, whatever the sound
    uniform: float

    @property
    def is_nearest(self) -> bool:
        """Whether the student is nearer to the teacher than both predictions that ignore the sound."""
        return self.student < min(self.mean, self.uniform)


@dataclass(frozen=True)
class HeldOut:
    """The last validation of a run. `total` is the mean over clips, not over videos."""

    step: int
    total: Distance
    videos: list[Distance]

    @classmethod
    def load(cls, path: Path, head: str) -> HeldOut:
        """From a run's validation.json. Raises UserError where it is missing or has no such head."""
        if not path.is_file():
            raise UserError(f"there is no {path}: the run behind it has validated nothing, delete it and run again")
        try:
            found = json.loads(path.read_bytes())
            total = _distance("all", found["clips"], found["mean"], head)
            videos = [_distance(unquote(row["video"]), row["clips"], row, head) for row in found["videos"]]
            return cls(found["step"], total, videos)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is no validation of {head}: {error!r}. Delete it and run again") from None

    @property
    def summary(self) -> str:
        total = self.total
        nearer = sum(video.is_nearest for video in self.videos)
        learned = (
            "The student tells what was to be seen from sound it never heard"
            if total.is_nearest
            else "The student does NO better than a guess that ignores the sound"
        )
        return (
            f"{learned}: its distance from the teacher (KL, nats) is {total.student:.2f} on average over {total.clips} "
            f"clips; that of the training videos' mean posterior is {total.mean:.2f}, that of a uniform guess "
            f"{total.uniform:.2f}. It is nearer than both on {nearer} of {len(self.videos)} videos."
        )


def _distance(video: str, clips: int, row: dict[str, float], head: str) -> Distance:
    return Distance(video, clips, row[f"{head}/kl"], row[f"{head}/kl_mean"], row[f"{head}/kl_uniform"])


@dataclass(frozen=True)
class Evidence:
    """What `make evidence` found in one head of the shards: its sentences, and its picture."""

    sentences: list[str]
    picture: bytes
    checkpoint_sha256: str

    @classmethod
    def load(cls, folder: Path, head: str) -> Evidence:
        """Raises UserError where it is missing or has no such head."""
        try:
            found = json.loads((folder / EVIDENCE).read_bytes())
            (sentences,) = (each["sentences"] for each in found["heads"] if each["head"] == head)
            return cls(sentences, (folder / PICTURE).read_bytes(), found["checkpoint"]["sha256"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{folder} holds no evidence on {head}: {error!r}. Delete it and run again") from None


@dataclass(frozen=True)
class Probe:
    """A linear classifier on the student's features, and on those of untrained networks of the same shape."""

    classes: list[str]
    student: Score
    random: list[Score]  # one for each seed
    leads: list[Comparison]  # of the student (a) over each of these (b), on the same recordings

    @classmethod
    def of(cls, scores: Scores) -> Probe:
        """Raises UserError where there is no checkpoint's score, or no random network's beside it."""
        student = [score for score in scores.scores if score.features == "checkpoint"]
        random = [score for score in scores.scores if score.features == "random network"]
        if len(student) != 1 or not random:
            raise UserError(
                f"a probe needs one score of a checkpoint and some of random networks, not {len(student)} and "
                f"{len(random)}: evaluate one layer with baselines=[random]"
            )
        leads = [compared(scores, student[0], scores, other) for other in random]
        return cls(scores.classes, student[0], random, leads)

    @property
    def chance(self) -> float:
        return 1 / len(self.classes)

    @property
    def random_accuracy(self) -> float:
        """The mean over seeds."""
        return sum(score.value for score in self.random) / len(self.random)

    @property
    def summary(self) -> str:
        if self.student.value == self.random_accuracy == 1:
            found = "A network that learned nothing names them all as well: this task is too easy to show a gain."
        elif self.student.value <= self.random_accuracy:
            found = "A network that learned nothing does as well: this probe shows NO gain from training."
        elif any(lead.better != "a" for lead in self.leads):
            found = (
                f"The student is ahead of networks that learned nothing, but {self.student.recordings} recordings are "
                f"too few to tell that from chance (McNemar, p = {max(lead.p for lead in self.leads):.2g})."
            )
        else:
            found = (
                "The student is ahead of networks that learned nothing, by more than chance (McNemar, "
                f"p = {max(lead.p for lead in self.leads):.2g})."
            )
        return f"{found} The sounds are synthetic: the numbers say nothing about natural sound."
