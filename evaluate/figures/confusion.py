"""Figure 3: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluate.figures.canvas import canvas, png


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """A PNG: rows are true classes, columns predicted ones, each row as shares of its recordings."""
    counts = np.array(confusion, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(4.5, 0.19 * len(classes) + 2)
    figure = canvas(size, size * 0.94)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="YlGnBu", vmin=0, vmax=1)
    names = [name.replace("_", " ") for name in classes]
    fontsize = 8 if len(classes) <= 20 else 6
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=fontsize)
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.6).ax.tick_params(labelsize=7)
    return png(figure)


def worst_confusions(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], count: int = 5
) -> list[tuple[str, str, int]]:
    """(true, predicted, recordings) of the most frequent mistakes."""
    mistakes = [
        (classes[true], classes[predicted], recordings)
        for true, row in enumerate(confusion)
        for predicted, recordings in enumerate(row)
        if true != predicted and recordings
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:count]
