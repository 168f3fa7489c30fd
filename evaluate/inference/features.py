"""A layer's features of a sound of any length, in memory that does not grow, equal to those of one pass.

The network runs on stretches that overlap by the layer's receptive field: a step is kept where all it depends on lies
inside its stretch, or beyond an end of the sound itself, where one pass has padding too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluate.inference.posteriors import posteriors_of
from evaluate.model import EvaluatedModel, device_of
from shards.media.rejects import UnreadableMedia
from train.device.threads import side_by_side
from train.model.layers import StudentSpec
from train.model.student import Student, Trunk, scaled

Rows = tuple[NDArray[np.float64], NDArray[np.float32]]  # seconds (rows,), features (rows, channels)

# Of sound in one pass, besides the overlap. Longer ones are no faster, and in a thread, whose allocator gives back what
# is above 64 MB, half as fast.
STRETCH_SECONDS = 20.0


def steps_of(model: EvaluatedModel, layer: str, pieces: Iterable[NDArray[np.int16]]) -> Iterator[Rows]:
    """The layer's steps, with the times of their centres, of a sound in pieces of int16 (samples,) at the model's rate.

    The output layer gives log posteriors, clip by clip, as `make tag` has them. Raises UnreadableMedia for a sound that
    has no sample at the model's rate.
    """
    network = model.network
    if isinstance(network, Student) and layer == network.spec.output.name:
        sound = posteriors_of(model, pieces)
        if not sound.seconds:
            raise too_short()
        yield (sound.begins + sound.ends) / 2, np.log(np.hstack(list(sound.posteriors.values())))
        return
    waveforms = (scaled(torch.from_numpy(piece)[None].to(device_of(network))) for piece in pieces)
    done = 0
    for part in features_of(network, layer, waveforms):
        rows = part[0].T.float().cpu().numpy()  # (steps, channels)
        yield centres(network, layer, len(rows), done), rows
        done += len(rows)
    if not done:
        raise too_short()


def too_short() -> UnreadableMedia:
    return UnreadableMedia("no_audio", "it is too short to be resampled")


def mean_of(steps: Iterable[Rows]) -> Iterator[Rows]:
    """One row: the mean over all steps, at their mean time. The sum is in float64, so that any length will do."""
    total, count, middle = np.zeros(1), 0, 0.0
    for times, rows in steps:
        total = total + rows.sum(axis=0, dtype=np.float64)
        middle += float(times.sum())
        count += len(rows)
    yield np.array([middle / count]), (total / count).astype(np.float32)[None]


def centres(network: Trunk, layer: str, steps: int, first: int = 0) -> NDArray[np.float64]:
    """Seconds (steps,) at the middle of what each step sees; in whole multiples of samples, so that nothing drifts."""
    spec = network.spec
    return (spec.centre(first, layer) + np.arange(steps) * spec.stride(layer)) / network.sample_rate


def features_of(
    network: Trunk, layer: str, pieces: Iterable[Tensor], stretch_seconds: float = STRETCH_SECONDS
) -> Iterator[Tensor]:
    """The layer of a sound in pieces (rows, samples), scaled to [-256, 256]: parts (rows, channels, steps) in order.

    A sound too short for the layer is repeated in a circle. No sound, no part.
    """
    for parts in layers_of(network, [layer], pieces, stretch_seconds):
        yield parts[layer]


def layers_of(
    network: Trunk, layers: Sequence[str], pieces: Iterable[Tensor], stretch_seconds: float = STRETCH_SECONDS
) -> Iterator[dict[str, Tensor]]:
    """As `features_of`, of several layers at once; a layer that has no more steps at the end is not in the last."""

    def run(stretch: tuple[Tensor, dict[str, slice]]) -> dict[str, Tensor]:
        waveform, steps = stretch
        with torch.inference_mode():
            return {layer: found[..., steps[layer]] for layer, found in network.features(waveform, list(steps)).items()}

    yield from side_by_side(run, _stretches(network, layers, pieces, stretch_seconds))


def whole_features(
    network: Trunk, layers: Sequence[str], waveform: NDArray[np.int16]
) -> dict[str, NDArray[np.float32]]:
    """{layer: (channels, steps)} of a sound int16 (samples,), a long one in stretches; one that is too short raises."""
    network.require_length(len(waveform), max(layers, key=network.layers.index))
    size = round(STRETCH_SECONDS * network.sample_rate)
    pieces = (
        scaled(torch.from_numpy(waveform[None, at : at + size]).to(device_of(network)))
        for at in range(0, len(waveform), size)
    )
    found: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    for parts in layers_of(network, layers, pieces):
        for layer, values in parts.items():
            found[layer].append(values[0].float().cpu().numpy())
    return {layer: np.concatenate(each, axis=1) for layer, each in found.items()}


def _stretches(
    network: Trunk, layers: Sequence[str], pieces: Iterable[Tensor], stretch_seconds: float
) -> Iterator[tuple[Tensor, dict[str, slice]]]:
    """Waveforms (rows, samples), and which of each layer's steps in them no other stretch gives."""
    spec = network.spec
    strides = {layer: spec.stride(layer) for layer in layers}
    grid = max(strides.values())  # of which the shallower ones are parts: a stretch begins at a step of every layer
    shortest = max(network.min_samples(layer) for layer in layers)
    enough = max(round(stretch_seconds * network.sample_rate), shortest) + grid
    enough += max(spec.receptive_field(layer) for layer in layers)
    held, start, done = None, 0, dict.fromkeys(layers, 0)  # where the next stretch begins, and how many steps are out
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        if held.shape[1] < enough:
            continue
        ends = {layer: start // strides[layer] + whole_steps(spec, layer, held.shape[1]) for layer in layers}
        yield held, {layer: _between(done[layer], ends[layer], start // strides[layer]) for layer in layers}
        done = ends
        needed = min(done[layer] * strides[layer] - padding(spec, layer) for layer in layers)
        kept = max(0, needed // grid * grid)
        held, start = held[:, kept - start :].clone(), kept
    if held is None or not held.shape[1]:
        return
    if not any(done.values()) and held.shape[1] < shortest:
        held = held.repeat(1, -(-shortest // held.shape[1]))[:, :shortest]
    ends = {layer: start // strides[layer] + spec.steps(held.shape[1], layer) for layer in layers}
    rest = [layer for layer in layers if ends[layer] > done[layer]]
    if rest:
        yield held, {layer: _between(done[layer], ends[layer], start // strides[layer]) for layer in rest}


def _between(first: int, last: int, start: int) -> slice:
    return slice(first - start, last - start)


def padding(spec: StudentSpec, layer: str) -> int:
    """Samples before the sound that the layer's first step reaches."""
    return round((spec.receptive_field(layer) - 1) / 2 - spec.centre(0, layer))


def whole_steps(spec: StudentSpec, layer: str, samples: int) -> int:
    """How many steps depend on nothing behind that many samples."""
    return max(0, (samples + padding(spec, layer) - spec.receptive_field(layer)) // spec.stride(layer) + 1)
