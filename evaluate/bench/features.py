"""How much is saved by hearing whole recordings once: against the network per window, and per window and fold.

`python -m evaluate.bench.features CHECKPOINT`: one pass over 10 s recordings of noise, against their 1 s windows,
which overlap.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from evaluate.probe.windows import HOP_SECONDS, cut_for
from shards.errors import UserError
from train.checkpoint.checkpoint import load_network
from train.model.student import Trunk, scaled

SECONDS, WINDOW_SECONDS, FOLDS = 10.0, 1.0, 5  # of ESC
RECORDINGS = 8
ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.bench.features", description="Time features of whole recordings."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--layer", default="pool5")
    arguments = parser.parse_args()
    try:
        network, _ = load_network(arguments.checkpoint)
        whole, windows, count = compare(network, arguments.layer)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{RECORDINGS} recordings of {SECONDS:g} s up to {arguments.layer}: whole {whole:.2f} s")
    print(f"in their {count} windows of {WINDOW_SECONDS:g} s: {windows:.2f} s, {windows / whole:.1f} times as long")
    print(f"by each of {FOLDS} folds anew: {FOLDS * windows / whole:.0f} times as long")
    return 0


def compare(network: Trunk, layer: str) -> tuple[float, float, int]:
    """Seconds for whole recordings, for their windows one by one in batches, and how many windows there are."""
    rate = network.sample_rate
    cut_for(network, layer, seconds=WINDOW_SECONDS, window_seconds=WINDOW_SECONDS)  # refuses what is too short
    waveforms = np.random.default_rng(0).integers(-8000, 8000, (RECORDINGS, round(SECONDS * rate))).astype(np.int16)
    windows = sliding_window_view(waveforms, round(WINDOW_SECONDS * rate), axis=1)[:, :: round(HOP_SECONDS * rate)]
    batches = [torch.from_numpy(each.copy()) for each in windows]  # (windows, samples) of a recording

    def hear(*heard: torch.Tensor) -> None:
        with torch.inference_mode():
            for batch in heard:
                network.features(scaled(batch), [layer])

    whole = _fastest(lambda: hear(torch.from_numpy(waveforms)))
    return whole, _fastest(lambda: hear(*batches)), len(batches) * len(batches[0])


def _fastest(work: Callable[[], None]) -> float:
    """The least of several times: what others do on the machine only adds to it."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
