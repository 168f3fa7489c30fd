"""The photographs inside the scikit-learn and scikit-image wheels, and a slow camera that pans and zooms over one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec

import av
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from shards.cli.commands import install
from shards.errors import UserError

# By name: package and file. Read as files: their packages' own loaders would download what they do not find.
PHOTOGRAPHS = {
    "china": ("sklearn.datasets", "images/china.jpg"),
    "flower": ("sklearn.datasets", "images/flower.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "brick": ("skimage", "data/brick.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}

Picture = NDArray[np.uint8]


def load_photograph(name: str) -> Picture:
    """A photograph, uint8 RGB (height, width, 3). Raises UserError where its package or file is not installed."""
    package, path = PHOTOGRAPHS[name]
    if find_spec(package.partition(".")[0]) is None or not (place := files(package).joinpath(path)).is_file():
        raise UserError(
            f"the photograph {name} is not in this Python: {package.partition('.')[0]} has no {path}. "
            f"Install what the demo needs: {install('demo')}"
        )
    with place.open("rb") as stream, Image.open(stream) as image:
        return np.asarray(image.convert("RGB"))


def camera(photograph: Picture, frames: int, *, width: int, height: int, rng: Generator) -> Iterator[av.VideoFrame]:
    """`frames` pictures in RGB: the view glides from one crop of the photograph to another, at times mirrored."""
    image = Image.fromarray(photograph[:, ::-1] if rng.uniform() < 0.5 else photograph)
    start, end = (_view(image.size, width / height, rng) for _ in range(2))
    for progress in np.linspace(0, 1, frames):
        eased = (1 - np.cos(np.pi * progress)) / 2
        # The box need not lie on whole pixels: a slow pan does not stutter.
        box = tuple((start + eased * (end - start)).tolist())
        view = image.resize((width, height), Image.Resampling.BILINEAR, box)
        yield av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")


def _view(size: tuple[int, int], aspect: float, rng: Generator) -> NDArray[np.float64]:
    """A random crop of the wanted aspect that shows most of the picture: (left, top, right, bottom) in pixels."""
    width, height = size
    view_height = rng.uniform(0.65, 1.0) * min(height, width / aspect)
    view_width = view_height * aspect
    left, top = rng.uniform(0, width - view_width), rng.uniform(0, height - view_height)
    return np.array([left, top, left + view_width, top + view_height])
