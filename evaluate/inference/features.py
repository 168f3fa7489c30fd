"""A layer's features of a sound of any length, in memory that does not grow, equal to those of one pass.

The network runs on stretches that overlap by the layer's receptive field: a step is kept where all it depends on lies
inside its stretch, or beyond an end of the sound itself, where one pass has padding too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from train.model.layers import StudentSpec
from train.model.student import Trunk

STRETCH_SECONDS = 60.0  # of sound in one pass, besides the overlap


def features_of(
    network: Trunk, layer: str, pieces: Iterable[Tensor], stretch_seconds: float = STRETCH_SECONDS
) -> Iterator[Tensor]:
    """The layer of a sound in pieces (rows, samples), scaled to [-256, 256]: parts (rows, channels, steps) in order.

    A sound too short for the layer is repeated in a circle. No sound, no part.
    """
    spec = network.spec
    stride, shortest = spec.stride(layer), network.min_samples(layer)
    enough = max(round(stretch_seconds * network.sample_rate), shortest) + spec.receptive_field(layer) + stride
    held, first, done = None, 0, 0  # the next stretch, the step it begins at, and how many steps are out

    def run(waveform: Tensor) -> Tensor:
        with torch.inference_mode():
            return network.features(waveform, [layer])[layer]

    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        if held.shape[1] < enough:
            continue
        whole = whole_steps(spec, layer, held.shape[1])  # of the stretch
        yield run(held)[..., done - first : whole]
        done = first + whole
        kept = max(0, (done * stride - padding(spec, layer)) // stride)  # where the next stretch may begin, in steps
        held, first = held[:, (kept - first) * stride :].clone(), kept
    if held is None or not held.shape[1]:
        return
    if done == 0 and held.shape[1] < shortest:
        held = held.repeat(1, -(-shortest // held.shape[1]))[:, :shortest]
    if spec.steps(held.shape[1], layer) > done - first:
        yield run(held)[..., done - first :]


def padding(spec: StudentSpec, layer: str) -> int:
    """Samples before the sound that the layer's first step reaches."""
    return round((spec.receptive_field(layer) - 1) / 2 - spec.centre(0, layer))


def whole_steps(spec: StudentSpec, layer: str, samples: int) -> int:
    """How many steps depend on nothing behind that many samples."""
    return max(0, (samples + padding(spec, layer) - spec.receptive_field(layer)) // spec.stride(layer) + 1)
