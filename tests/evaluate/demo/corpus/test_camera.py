"""The photographs come out of the wheels as another decoder sees them; the camera moves slowly and stays inside."""

import socket
from itertools import pairwise

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from evaluate.demo.corpus.camera import PHOTOGRAPHS, camera, load_photograph
from evaluate.demo.corpus.sounds import FAMILIES
from shards.errors import UserError

skimage = pytest.importorskip("skimage", reason="the photographs of scikit-image come with the demo extra")


def test_every_photograph_has_sounds_of_its_own():
    assert PHOTOGRAPHS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_in_the_wheels(name, monkeypatch):
    def no_network(*_):
        raise AssertionError("a photograph must not be fetched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    package, path = PHOTOGRAPHS[name]
    home = sklearn.datasets.__path__[0] if package == "sklearn.datasets" else skimage.__path__[0]
    with Image.open(f"{home}/{path}") as image:
        expected = np.asarray(image.convert("RGB")).astype(float)
    found = load_photograph(name)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert np.abs(found - expected).mean() < 2  # two JPEG decoders differ by a little


def test_a_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(PHOTOGRAPHS, "china", ("no_such_package", "china.jpg"))
    with pytest.raises(UserError, match=r"china.*no_such_package.*\[demo\]"):
        load_photograph("china")


def test_the_camera_moves_but_never_jumps():
    photograph = load_photograph("china")
    frames = [
        frame.to_ndarray().astype(float)
        for frame in camera(photograph, 50, width=64, height=48, rng=np.random.default_rng(3))
    ]
    assert len(frames) == 50
    assert frames[0].shape == (48, 64, 3)
    assert all(frame.std() > 10 for frame in frames)  # no black border, no empty sky
    steps = [np.abs(one - other).mean() for one, other in pairwise(frames)]
    assert np.abs(frames[0] - frames[-1]).mean() > 5 * max(steps)
    assert min(steps[10:-10]) > 0.2 * max(steps)  # nor does it stutter


def test_two_cameras_see_different_things():
    photograph = load_photograph("china")
    one, two = (
        next(camera(photograph, 2, width=64, height=48, rng=np.random.default_rng(seed))).to_ndarray()
        for seed in (0, 1)
    )
    assert np.abs(one.astype(float) - two).mean() > 5
