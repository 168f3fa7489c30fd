"""What a student says of one sound: a posterior per head for every output step of every clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.probe.features import BATCH_SECONDS
from shards.format.clip import ClipSpec
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
class _Row:
    """One output step of one clip: where it stands, which samples of it are new, and what was said."""

    begin: float  # samples
    end: float
    posteriors: dict[str, NDArray[np.float32]]  # head -> (classes,)


def hear(student: Student, clip: ClipSpec, pieces: Iterable[NDArray[np.int16]], device: str = "cpu") -> SoundPosteriors:
    """Ask `student` about a sound that comes in pieces of int16 (samples,), in clips of the length it was trained on.

    Step i of a clip answers for the i-th of its equal parts, as in training (section 3.2 and the authors' code).
    """
    rate = clip.sample_rate
    peaks = Peaks(round(PEAK_SECONDS * rate))
    rows: list[_Row] = []
    sums: dict[str, NDArray[np.float64]] = {}
    weight = 0.0
    end = 0
    cut = clips_of(peaks.watch(pieces), clip.samples)
    while batch := list(islice(cut, max(1, round(BATCH_SECONDS / clip.seconds)))):
        for each, row in _answers(student, batch, device):
            share = row.end - max(row.begin, each.fresh)
            if share <= 0:
                continue  # said by the clip before
            for head, posterior in row.posteriors.items():
                sums[head] = sums.get(head, 0.0) + share * posterior.astype(np.float64)
            weight += share
            end = each.end
            begin = max(row.begin, each.fresh)
            if rows and end - begin < LEAST_PART * (row.end - row.begin):
                rows[-1] = replace(rows[-1], end=end)  # or the sound's own repetition, which counts for its mean alone
            else:
                rows.append(_Row(begin, min(row.end, end), row.posteriors))
    return SoundPosteriors(
        seconds=end / rate,
        begins=np.array([row.begin for row in rows]) / rate,
        ends=np.array([row.end for row in rows]) / rate,
        posteriors={head: np.stack([row.posteriors[head] for row in rows]) for head in sums},
        means={head: total / weight for head, total in sums.items()},
        peaks=peaks.found,
    )


def _answers(student: Student, batch: list[Clip], device: str) -> Iterator[tuple[Clip, _Row]]:
    """Every step of every clip, with the part of the sound that it answers for."""
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in batch])).to(device)
    with torch.inference_mode():
        logits = student(scaled(waveforms))  # head -> (batch, classes, steps)
        posteriors = {head: each.float().softmax(dim=1).transpose(1, 2).cpu().numpy() for head, each in logits.items()}
    steps = next(iter(posteriors.values())).shape[1]
    part = waveforms.shape[1] / steps
    for index, clip in enumerate(batch):
        for step in range(steps):
            begin = clip.first + step * part
            yield clip, _Row(begin, begin + part, {head: each[index, step] for head, each in posteriors.items()})


class Peaks:
    """The envelope of a sound that passes by in pieces."""

    def __init__(self, samples: int) -> None:
        self._samples, self._rest = samples, np.empty(0, np.int16)
        self._found: list[NDArray[np.int16]] = []

    @property
    def found(self) -> NDArray[np.int16]:
        """int16 (points,): the largest magnitude of each stretch, the incomplete last one included."""
        last = [self._loudest(self._rest[None])] if len(self._rest) else []
        return np.concatenate([np.empty(0, np.int16), *self._found, *last])

    def watch(self, pieces: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        """The same pieces, looked at."""
        for piece in pieces:
            held = np.concatenate([self._rest, piece])
            whole = len(held) - len(held) % self._samples
            self._found.append(self._loudest(held[:whole].reshape(-1, self._samples)))
            self._rest = held[whole:]
            yield piece

    def _loudest(self, stretches: NDArray[np.int16]) -> NDArray[np.int16]:
        loudest: NDArray[np.int16] = np.maximum(stretches.max(axis=1), -np.maximum(stretches.min(axis=1), -32767))
        return loudest


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
