"""A sound's tags as a picture: its envelope, and below it the lift of each head's strongest classes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from evaluate.figures.canvas import ACCENT, canvas, png
from evaluate.inference.posteriors import PEAK_SECONDS, SoundPosteriors
from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.tags import SILENT, Tag

CLASSES = 12  # of a head
LEAST_RANGE = 10.0  # of lifts, that the colours span
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
WIDTH, ROW_HEIGHT, ENVELOPE_HEIGHT = 11.0, 0.24, 1.1  # inches


def timeline(path: Path, sound: SoundPosteriors, base: Baseline, classes: Mapping[str, Sequence[str]]) -> bytes:
    """PNG of one sound."""
    heads = list(sound.posteriors)
    heard = [[sound.peak(begin, end) > SILENT] for begin, end in zip(sound.begins, sound.ends, strict=True)]
    lifts = {head: base.lift(head, sound.posteriors[head]) * heard for head in heads}  # (rows, classes)
    chosen = {head: strongest(sound.posteriors[head], lifts[head], len(classes[head])) for head in heads}
    highest = max([LEAST_RANGE, *(lifts[head][:, chosen[head]].max(initial=0) for head in heads)])
    heights = [ENVELOPE_HEIGHT, *(ROW_HEIGHT * max(2, len(chosen[head])) for head in heads)]
    figure = canvas(WIDTH, sum(heights) + 0.8 + 0.4 * len(heads))
    figure.suptitle(_safe(path.name), x=0.01, ha="left", fontsize=11, parse_math=False)
    axes: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    _draw_envelope(axes[0], sound)
    edges = np.append(sound.begins, sound.ends[-1:])
    for axis, head in zip(axes[1:], heads, strict=True):
        shown = lifts[head][:, chosen[head]].T  # (classes, rows)
        colours = np.log2(np.maximum(shown, 1))
        mesh = axis.pcolormesh(edges, np.arange(len(shown) + 1), colours, cmap="YlGnBu", vmin=0, vmax=np.log2(highest))
        names = [_safe(Tag(classes[head][index], 0, 0).short) for index in chosen[head]]
        axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8, parse_math=False)
        axis.invert_yaxis()
        axis.set_title(head, loc="left", fontsize=9, parse_math=False)
    bar = figure.colorbar(mesh, ax=axes[1:], pad=0.01, fraction=0.03)
    ticks = [tick for tick in TICKS if tick <= highest]
    bar.set_ticks(np.log2(ticks).tolist(), labels=[f"{tick}x" for tick in ticks], fontsize=8)
    axes[-1].set_xlabel(f"seconds; lift over {base.origin}", fontsize=8, parse_math=False)
    axes[-1].set_xlim(0, sound.seconds)
    return png(figure)


def strongest(posteriors: NDArray[np.float32], lifts: NDArray[np.float64], count: int) -> list[int]:
    """At most CLASSES indices, in the order of the time at which each is strongest.

    First those that have the highest lift in some part of the sound, then those that come second in one, and so on. As
    in `strongest_tags`, a class counts where it is at least as likely as if all were.
    """
    likely = np.where(posteriors * count >= 1 - 1e-6, lifts, 0)  # (rows, classes)
    places = (-likely).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    order = np.lexsort((-likely.max(axis=0), np.where(likely > 0, places, count).min(axis=0)))
    found = [int(index) for index in order[:CLASSES] if likely[:, index].any()]
    return sorted(found, key=lambda index: int(likely[:, index].argmax()))


def _draw_envelope(axis: Axes, sound: SoundPosteriors) -> None:
    times = np.arange(len(sound.peaks) + 1) * PEAK_SECONDS
    heights = sound.peaks / max(1, sound.peaks.max(initial=0))
    axis.stairs(heights, times, baseline=-heights, fill=True, color=ACCENT)
    axis.set_yticks([])
    axis.set_ylim(-1, 1)


def _safe(text: str) -> str:
    return text.encode(errors="replace").decode()
