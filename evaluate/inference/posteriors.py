"""A student's posteriors over one sound of any length: per head, for every output step of every clip.

The sound is cut into clips as long as those of the training. Step i of a clip answers for the i-th of its equal parts,
as in training (section 3.2 and the authors' code).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.model import EvaluatedModel, device_of
from evaluate.probe.features import BATCH_SECONDS
from train.model.student import Student, scaled

PEAK_SECONDS = 0.25  # of sound behind each point of the envelope
LEAST_PART = 0.1  # of a step's part of the clip: a rest shorter than that belongs to the part before it


@dataclass(frozen=True)
class SoundPosteriors:
    """Rows in the order of time: `begins` and `ends` in seconds (rows,), posteriors {head: float32 (rows, classes)}.

    `means` {head: (classes,)} is over the whole sound. `peaks` (points,) are the loudest samples of PEAK_SECONDS each.
    This is all that is kept: 4 MB for an hour of 1,401 classes.
    """

    seconds: float
    begins: NDArray[np.float64]
    ends: NDArray[np.float64]
    posteriors: dict[str, NDArray[np.float32]]
    means: dict[str, NDArray[np.float64]]
    peaks: NDArray[np.int16]


@dataclass(frozen=True)
class Clip:
    """int16 (samples,) that stand at `first` in the sound; what lies before `fresh` was in the clip before."""

    waveform: NDArray[np.int16]
    first: int
    fresh: int
    sound: int  # samples that are the sound's own; behind them it begins again

    @property
    def end(self) -> int:
        """One past the sound's last sample in this clip."""
        return self.first + self.sound


@dataclass(frozen=True)
class _Row:
    """One output step of one clip: the part of the sound it answers for, in samples, and {head: (classes,)}."""

    begin: float
    end: float
    posteriors: dict[str, NDArray[np.float32]]


def posteriors_of(model: EvaluatedModel, pieces: Iterable[NDArray[np.int16]]) -> SoundPosteriors:
    """The posteriors of a sound that comes in pieces of int16 (samples,), by a model loaded with `heads`."""
    clip = model.checkpoint.clip
    envelope = Envelope(round(PEAK_SECONDS * clip.sample_rate))
    rows: list[_Row] = []
    sums: dict[str, NDArray[np.float64]] = {}
    weight, end = 0.0, 0
    clips = clips_of(envelope.watch(pieces), clip.samples)
    while batch := list(islice(clips, max(1, round(BATCH_SECONDS / clip.seconds)))):
        for each, row in _rows_of(model, batch):
            begin = max(row.begin, each.fresh)
            share = row.end - begin
            if share <= 0:
                continue  # the clip before has answered for it
            for head, posterior in row.posteriors.items():
                sums[head] = sums.get(head, 0.0) + share * posterior.astype(np.float64)
            weight += share
            end = each.end
            if rows and end - begin < LEAST_PART * (row.end - row.begin):
                rows[-1] = replace(rows[-1], end=end)  # or the sound's own repetition, which counts for its mean alone
            else:
                rows.append(_Row(begin, min(row.end, end), row.posteriors))
    return SoundPosteriors(
        seconds=end / clip.sample_rate,
        begins=np.array([row.begin for row in rows]) / clip.sample_rate,
        ends=np.array([row.end for row in rows]) / clip.sample_rate,
        posteriors={head: np.stack([row.posteriors[head] for row in rows]) for head in sums},
        means={head: total / weight for head, total in sums.items()},
        peaks=envelope.peaks,
    )


def _rows_of(model: EvaluatedModel, batch: list[Clip]) -> Iterator[tuple[Clip, _Row]]:
    """Every output step of every clip."""
    student = model.network
    assert isinstance(student, Student)
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in batch])).to(device_of(student))
    with torch.inference_mode():
        logits = student(scaled(waveforms))  # head -> (batch, classes, steps)
        posteriors = {head: each.float().softmax(dim=1).transpose(1, 2).cpu().numpy() for head, each in logits.items()}
    steps = next(iter(posteriors.values())).shape[1]
    part = waveforms.shape[1] / steps
    for index, clip in enumerate(batch):
        for step in range(steps):
            begin = clip.first + step * part
            yield clip, _Row(begin, begin + part, {head: each[index, step] for head, each in posteriors.items()})


def clips_of(pieces: Iterable[NDArray[np.int16]], samples: int) -> Iterator[Clip]:
    """Clips of `samples`, one behind the other; the last one reaches back to be whole.

    A sound shorter than a clip is repeated in a circle, as in training. No sound gives no clip.
    """
    held, before, first = np.empty(0, np.int16), None, 0
    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) >= samples:
            yield Clip(held[:samples], first, first, samples)
            before, held, first = held[:samples], held[samples:], first + samples
    if not len(held):
        return
    if before is None:
        yield Clip(np.resize(held, samples), 0, 0, len(held))
    else:
        yield Clip(np.concatenate([before[len(held) :], held]), first + len(held) - samples, first, samples)


class Envelope:
    """The loudest sample of every `samples` of a sound that passes by in pieces."""

    def __init__(self, samples: int) -> None:
        self._samples, self._rest = samples, np.empty(0, np.int16)
        self._peaks: list[NDArray[np.int16]] = []

    def watch(self, pieces: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        """The same pieces, measured as they pass."""
        for piece in pieces:
            held = np.concatenate([self._rest, piece])
            whole = len(held) - len(held) % self._samples
            self._peaks.append(_loudest(held[:whole].reshape(-1, self._samples)))
            self._rest = held[whole:]
            yield piece

    @property
    def peaks(self) -> NDArray[np.int16]:
        """int16 (points,): the largest magnitude of each stretch, the incomplete last one included."""
        last = [_loudest(self._rest[None])] if len(self._rest) else []
        return np.concatenate([np.empty(0, np.int16), *self._peaks, *last])


def _loudest(stretches: NDArray[np.int16]) -> NDArray[np.int16]:
    """(stretches, samples) -> (stretches,); -32768 has no positive counterpart in int16 and counts as 32767."""
    loudest: NDArray[np.int16] = np.maximum(stretches.max(axis=1), -np.maximum(stretches.min(axis=1), -32767))
    return loudest
