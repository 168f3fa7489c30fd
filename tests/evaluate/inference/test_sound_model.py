"""A vector for a sound: what the network's own layers give for the samples resampled by hand; names as `make tag`'s."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from evaluate.inference.sound_model import SoundModel, load
from evaluate.inference.tag.run import TagSettings, run
from shards.cli.command import compose
from shards.errors import UserError
from tests.evaluate.conftest import RATE, tone
from train.checkpoint.checkpoint import Checkpoint, build, load_network, save
from train.checkpoint.checkpoint import load as load_checkpoint
from train.model.layers import StudentSpec


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> SoundModel:
    return load(checkpoint)


def by_hand(checkpoint: Path, samples: NDArray[np.float64], layer: str) -> NDArray[np.float64]:
    """(steps, channels) of samples in [-1, 1] at RATE, in one pass of the network in float64."""
    network = load_network(checkpoint)[0].double()
    with torch.no_grad():
        return network.features(torch.from_numpy(256 * samples)[None], [layer])[layer][0].T.numpy()


@pytest.mark.parametrize("layer", ["conv1", "pool1", "conv2"])
def test_a_vector_is_the_mean_of_the_layer_over_the_sound(model: SoundModel, checkpoint: Path, layer: str) -> None:
    samples = np.round(tone("middle", 1, seconds=3.0) * 32_768) / 32_768
    vector = model.embed(samples, RATE, layer)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, by_hand(checkpoint, samples, layer).mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_any_rate_and_channels_are_the_same_sound(model: SoundModel, checkpoint: Path, rate: int) -> None:
    """Against soxr, whose filter is another: a tone in noise, whose features differ far more from another tone's."""
    fast = tone("middle", 2, seconds=2.0, rate=rate)
    expected = by_hand(checkpoint, soxr.resample(fast, rate, RATE), "conv2").mean(axis=0)
    other = model.embed(tone("high", 2, seconds=2.0), RATE)
    for given in (
        fast,
        torch.from_numpy(fast).float(),
        np.stack([fast, fast]),
        np.round(fast * 32_768).astype(np.int16),
    ):
        distance = np.linalg.norm(model.embed(given, rate) - expected)
        assert distance < 0.05 * np.linalg.norm(other - expected)


def test_steps_stand_at_their_times(model: SoundModel, checkpoint: Path) -> None:
    samples = np.round(tone("low", 3, seconds=5.0) * 32_768) / 32_768
    vectors, times = model.timestamps(samples, RATE)
    assert model.timestamp_layer == "conv2" and vectors.shape == (len(times), model.timestamp_size) == (len(times), 8)
    # conv1 16/4 pad 8, pool1 8/8, conv2 8/4 pad 4: step i reads samples from 128 i - 136 on, 268 of them.
    centres = (128 * np.arange(400) - 136 + 267 / 2) / RATE
    expected = centres[(centres >= 0) & (centres <= 5.0)]
    np.testing.assert_allclose(times, expected[: len(times)], atol=1e-9)
    assert times[-1] > 5.0 - 128 / RATE
    whole = by_hand(checkpoint, samples, "conv2")[1:]  # step 0 is centred before the sound
    np.testing.assert_allclose(vectors, whole[: len(vectors)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 50, 700])
def test_the_shortest_sounds_have_vectors_too(model: SoundModel, samples: int) -> None:
    sound = tone("low", 4, seconds=1.0)[:samples]
    vectors, times = model.timestamps(sound, RATE)
    assert len(vectors) == len(times) >= 1 and ((times >= 0) & (times <= samples / RATE)).all()
    assert np.isfinite(vectors).all() and model.embed(sound, RATE).shape == (model.embedding_size,)


def test_names_are_those_of_make_tag(model: SoundModel, checkpoint: Path, tmp_path: Path) -> None:
    mean = torch.tensor([0.2, 0.3, 0.5])
    known = tmp_path / "known.pt"
    save(known, replace(load_checkpoint(checkpoint), training_mean={"objects": mean}))
    samples = np.round(tone("high", 5, seconds=4.5) * 32_768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    run(TagSettings([tmp_path / "a.wav"], known, top=2, out=tmp_path / "tags.json"))
    (expected,) = json.loads((tmp_path / "tags.json").read_text())["files"]
    found = load(known).tag(samples, RATE, top=2)
    assert [vars(tag) for tag in found.whole.tags["objects"]] == expected["whole"]["objects"]
    assert [(part.begin, part.end) for part in found.parts] == [(p["begin"], p["end"]) for p in expected["parts"]]
    assert {tag.lift for tag in model.tag(samples, RATE).whole.tags["objects"]} == {1.0}  # no mean: over itself


def test_what_the_network_is_can_be_read(model: SoundModel) -> None:
    assert (model.sample_rate, model.classes, model.layer, model.embedding_size) == (
        *(RATE, {"objects": ("a", "b", "c")}, "conv2", 8),
    )
    assert model.embed(np.ones(RATE, np.int16), RATE, "conv3").shape == (3,)  # the output: log posteriors


def test_what_is_wrong_is_one_line(model: SoundModel, checkpoint: Path, tmp_path: Path) -> None:
    sound = np.zeros(RATE)
    with pytest.raises(UserError, match="tiny has no layer conv9"):
        model.embed(sound, RATE, "conv9")
    with pytest.raises(UserError, match="channels last"):
        model.timestamps(np.zeros((RATE, 2)), RATE)
    with pytest.raises(UserError, match="samples a second"):
        model.tag(sound, "8000")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no checkpoint"):
        load(tmp_path / "absent.pt")
    for device in ("cuda:99", "gpu"):
        with pytest.raises(UserError, match=f"device={device} cannot be used here: "):
            load(checkpoint, device)
    spec = compose(StudentSpec, "student/autoencoder")
    network = build(spec, {}, sample_rate=RATE)
    save(tmp_path / "auto.pt", Checkpoint(spec, load_checkpoint(checkpoint).clip, {}, network.state_dict()))
    with pytest.raises(
        UserError, match=r"auto\.pt holds an autoencoder, which has no classes to name: give a student's checkpoint"
    ):
        load(tmp_path / "auto.pt").tag(sound, RATE)
