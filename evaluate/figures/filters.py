"""Figure 5: the first layer's filters on raw sound, in time and in frequency, from low to high."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluate.figures.canvas import ACCENT, canvas, png
from train.model.student import Trunk

SPECTRUM_POINTS = 1024


def draw_filters(network: Trunk) -> bytes:
    """A PNG with each filter's taps above the size of its frequency response."""
    filters, responses, frequencies = first_filters(network)
    columns = min(8, len(filters))
    rows = math.ceil(len(filters) / columns)
    figure = canvas(1.6 * columns, 1.9 * rows)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    milliseconds = 1000 * np.arange(filters.shape[1]) / network.sample_rate
    for index, (taps, response) in enumerate(zip(filters, responses, strict=True)):
        row, column = divmod(index, columns)
        axes[2 * row, column].plot(milliseconds, taps, color=ACCENT, linewidth=0.8)
        axes[2 * row + 1, column].fill_between(frequencies / 1000, response, color=ACCENT, alpha=0.6, linewidth=0)
        axes[2 * row, column].set_title(f"{frequencies[response.argmax()]:,.0f} Hz", fontsize=8)
    return png(figure)


def first_filters(network: Trunk) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Taps (filters, samples), sizes of their responses (filters, points) and the frequencies in Hz (points,).

    Ordered by the frequency they let through best.
    """
    weight = network.get_parameter(f"blocks.{network.layers[0]}.conv.weight")  # (filters, 1, taps)
    filters: NDArray[np.float64] = weight.detach().cpu().double().numpy()[:, 0]
    responses: NDArray[np.float64] = np.abs(np.fft.rfft(filters, SPECTRUM_POINTS, axis=1))
    order = responses.argmax(axis=1).argsort(kind="stable")
    frequencies = np.fft.rfftfreq(SPECTRUM_POINTS, 1 / network.sample_rate).astype(np.float64)
    return filters[order], responses[order], frequencies
