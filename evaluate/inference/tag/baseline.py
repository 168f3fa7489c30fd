"""What lifts are over: the mean posterior of each class, of a training set, of sounds, or out of a small file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.posteriors import SoundPosteriors
from shards.errors import ContractError, UserError
from shards.files import write_whole
from train.checkpoint.checkpoint import Checkpoint

LEAST_SHARE = 1e-3  # of an even posterior: what a class is taken to have elsewhere where it never came up
SUFFIX = ".json"
DIGITS = 4  # of a mean in a file: a lift is shown with fewer


@dataclass(frozen=True)
class Baseline:
    """Mean posteriors {head: (classes,)}, and in words what they are the mean over."""

    means: Mapping[str, NDArray[np.float64]]
    over: str

    @property
    def origin(self) -> str:
        return f"the mean over {self.over}"

    @classmethod
    def known(cls, checkpoint: Checkpoint) -> Baseline | None:
        """The mean that the checkpoint has: over its training set, or what else it says."""
        if checkpoint.training_mean is None:
            return None
        means = {head: mean.double().cpu().numpy() for head, mean in checkpoint.training_mean.items()}
        return cls(means, checkpoint.mean_over)

    @classmethod
    def of(cls, sounds: Sequence[SoundPosteriors], over: str) -> Baseline:
        """The mean over sounds, each by its length."""
        lengths = np.array([sound.seconds for sound in sounds])
        heads = sounds[0].means
        means = {head: lengths @ np.stack([sound.means[head] for sound in sounds]) / lengths.sum() for head in heads}
        return cls(means, over)

    @classmethod
    def load(cls, path: Path, checkpoint: Checkpoint) -> Baseline:
        """A file of `save`. Raises UserError, and ContractError where it was made with another network."""
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            means = {head: np.array(mean, np.float64) for head, mean in fields["means"].items()}
            found, over = str(fields["network"]), str(fields["over"])
        except OSError as error:
            raise UserError(f"base={path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"base={path} is not a file that save_base= wrote: {error!r}") from None
        wanted = checkpoint.network_sha256
        if found != wanted or {head: mean.shape for head, mean in means.items()} != {
            head: (classes,) for head, classes in checkpoint.heads.items()
        }:
            raise ContractError(
                f"base={path} was made with a network whose weights have sha256 {found[:12]}, those of the checkpoint "
                f"have {wanted[:12]}: make it again, base=<sounds> save_base={path}"
            )
        return cls(means, over)

    def save(self, path: Path, checkpoint: Checkpoint) -> None:
        """A number a class, of which network, and what they are the mean over."""
        means = {head: [float(f"{each:.{DIGITS}g}") for each in mean] for head, mean in self.means.items()}
        record = {"over": self.over, "network": checkpoint.network_sha256, "means": means}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(record) + "\n").encode())

    def lift(self, head: str, posteriors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Posteriors (..., classes) over their mean."""
        mean = self.means[head]
        lifts: NDArray[np.float64] = posteriors / np.maximum(mean, LEAST_SHARE / len(mean))
        return lifts
