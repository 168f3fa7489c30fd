"""A student's posteriors over one sound of any length: per head, for every output step of every clip.

The sound is cut into clips as long as those of the training. Step i of a clip answers for the i-th of its equal parts,
as in training (section 3.2 and the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.model import EvaluatedModel, device_of
from shards.media.rejects import UnreadableMedia
from train.device.threads import side_by_side
from train.model.student import Student, scaled

CLIPS = 4  # in one pass; more are no faster on a CPU
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

    def peak(self, begin: float, end: float) -> int:
        """The loudest sample of the stretches of PEAK_SECONDS that lie between, or partly between, two times."""
        first, last = math.floor(begin / PEAK_SECONDS), math.ceil(end / PEAK_SECONDS)
        return int(self.peaks[first:last].max(initial=0))


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


class _Sound:
    """One sound's posteriors while its clips come, and why it could not be read, if so."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.envelope = Envelope(round(PEAK_SECONDS * sample_rate))
        self.fault: UnreadableMedia | None = None
        self._begins, self._ends = np.empty(0), np.empty(0)  # of the rows, in samples
        self._posteriors: dict[str, list[NDArray[np.float32]]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._weight, self._end = 0.0, 0

    def add(self, clip: Clip, posteriors: dict[str, NDArray[np.float32]]) -> None:
        """The next clip's {head: (steps, classes)}."""
        steps = len(next(iter(posteriors.values())))
        part = len(clip.waveform) / steps
        begins = clip.first + np.arange(steps) * part
        ends = begins + part
        begins = np.maximum(begins, clip.fresh)
        shares = np.maximum(ends - begins, 0)  # 0: the clip before has answered for it
        rows = (shares > 0) & (clip.end - begins >= LEAST_PART * part)
        if not len(self._begins):
            rows[0] = True
        # What is left over is the row's before it, or the sound's own repetition, which counts for its mean alone.
        self._begins = np.append(self._begins, begins[rows])
        self._ends = np.append(self._ends, np.minimum(ends[rows], clip.end))
        if (shares[~rows] > 0).any():
            self._ends[-1] = clip.end
        for head, values in posteriors.items():
            self._posteriors.setdefault(head, []).append(values[rows])
            self._sums[head] = self._sums.get(head, 0.0) + shares @ values
        self._weight += shares.sum()
        self._end = clip.end

    def posteriors(self) -> SoundPosteriors:
        return SoundPosteriors(
            seconds=self._end / self.sample_rate,
            begins=self._begins / self.sample_rate,
            ends=self._ends / self.sample_rate,
            posteriors={head: np.concatenate(parts) for head, parts in self._posteriors.items()},
            means={head: total / self._weight for head, total in self._sums.items()},
            peaks=self.envelope.peaks,
        )


def posteriors_of(model: EvaluatedModel, pieces: Iterable[NDArray[np.int16]]) -> SoundPosteriors:
    """The posteriors of a sound that comes in pieces of int16 (samples,), by a model loaded with `heads`.

    Raises the UnreadableMedia of its pieces.
    """
    (found,) = posteriors_of_each(model, [pieces])
    if isinstance(found, UnreadableMedia):
        raise found
    return found


def posteriors_as_they_come(model: EvaluatedModel, pieces: Iterable[NDArray[np.int16]]) -> Iterator[SoundPosteriors]:
    """Of one sound as far as it was heard, every CLIPS clips; the last ones are those of all of it. Raises as above."""
    sound = _Sound(model.checkpoint.clip.sample_rate)
    for _ in _hear(model, [sound], [pieces]):
        yield sound.posteriors()
    if sound.fault:
        raise sound.fault


def posteriors_of_each(
    model: EvaluatedModel, sounds: Sequence[Iterable[NDArray[np.int16]]]
) -> list[SoundPosteriors | UnreadableMedia]:
    """Of several sounds, whose clips go through the network CLIPS at a time: of a short one alone takes 1.7 times."""
    found = [_Sound(model.checkpoint.clip.sample_rate) for _ in sounds]
    for _ in _hear(model, found, sounds):
        pass
    return [sound.fault or sound.posteriors() for sound in found]


def _hear(
    model: EvaluatedModel, found: Sequence[_Sound], sounds: Sequence[Iterable[NDArray[np.int16]]]
) -> Iterator[None]:
    """Add to `found` what the network says of each of `sounds`; a step for every CLIPS clips."""
    samples = model.checkpoint.clip.samples

    def clips() -> Iterator[tuple[_Sound, Clip]]:
        for sound, pieces in zip(found, sounds, strict=True):
            try:
                for each in clips_of(sound.envelope.watch(pieces), samples):
                    yield sound, each
            except UnreadableMedia as fault:
                sound.fault = fault

    coming = clips()
    batches = iter(lambda: list(islice(coming, CLIPS)), [])

    def heard(batch: list[tuple[_Sound, Clip]]) -> tuple[list[tuple[_Sound, Clip]], dict[str, NDArray[np.float32]]]:
        return batch, step_posteriors(model, np.stack([clip.waveform for _, clip in batch]))

    for batch, posteriors in side_by_side(heard, batches):
        for index, (sound, each) in enumerate(batch):
            sound.add(each, {head: values[index] for head, values in posteriors.items()})
        yield


def step_posteriors(model: EvaluatedModel, waveforms: NDArray[np.int16]) -> dict[str, NDArray[np.float32]]:
    """{head: (clips, steps, classes)} of int16 (clips, samples), each as long as a clip of the training."""
    student = model.network
    assert isinstance(student, Student)
    with torch.inference_mode():
        logits = student(scaled(torch.from_numpy(waveforms).to(device_of(student))))  # head -> (clips, classes, steps)
        return {head: each.float().softmax(dim=1).transpose(1, 2).cpu().numpy() for head, each in logits.items()}


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
