"""Figure 4: t-SNE of visual features and of sound features; labels only colour the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from evaluate.figures.canvas import canvas, png


def embed(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, dimensions) -> (n, 2), the same on every run. Each dimension is scaled to deviation 1 first."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    embedded: NDArray[np.float64] = tsne.fit_transform(StandardScaler().fit_transform(vectors))
    return embedded


def draw_embeddings(
    vectors: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], classes: Sequence[str]
) -> bytes:
    """A PNG with one panel per modality, points coloured by class."""
    figure = canvas(5.2 * len(vectors), 5)
    colours = colormaps["nipy_spectral"](np.linspace(0.05, 0.95, len(classes)))
    for axes, (title, values) in zip(figure.subplots(1, len(vectors), squeeze=False)[0], vectors.items(), strict=True):
        points = embed(values)
        for label, name in enumerate(classes):
            own = points[labels == label]
            axes.scatter(own[:, 0], own[:, 1], s=14, color=colours[label], label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=7, markerscale=1.2)
    return png(figure)
