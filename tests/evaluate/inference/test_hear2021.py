"""The HEAR 2021 API by the rules of hear-validator 2021, and what the rules say beyond it: any length, any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluate.inference.hear2021 import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model
from shards.cli.command import compose
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import Checkpoint, build, save
from train.model.layers import StudentSpec

RATES = (16_000, 22_050, 44_100, 48_000)  # that the benchmark's data come in


@pytest.fixture(scope="module", params=["soundnet8", "soundnet5"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HearModel:
    spec = compose(StudentSpec, f"student/{request.param}")
    network = build(spec, {"objects": 3}, sample_rate=22_050)
    path = tmp_path_factory.mktemp("hear") / "student.pt"
    card = TeacherCard("none", "none", "", {}, ("a", "b", "c"))
    save(path, Checkpoint(spec, ClipSpec(), {"objects": card}, network.state_dict()))
    return load_model(str(path))


def white(sounds: int, seconds: float, rate: int = 22_050) -> Tensor:
    generator = torch.Generator().manual_seed(round(1000 * seconds))
    return torch.rand((sounds, int(seconds * rate)), generator=generator) * 2 - 1


def test_the_model_has_what_the_api_asks_for(model: HearModel) -> None:
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model.sample_rate in RATES
    assert isinstance(model.scene_embedding_size, int) and isinstance(model.timestamp_embedding_size, int)
    chosen = (model.layer, model.scene_embedding_size, model.timestamp_layer, model.timestamp_embedding_size)
    assert chosen in [("pool5", 256, "conv4", 128), ("conv4", 256, "conv3", 128)]


@pytest.mark.parametrize("seconds", [1.07, 1.98, 4.0])  # the validator's
def test_timestamps_are_centred_even_and_reach_both_ends(model: HearModel, seconds: float) -> None:
    embeddings, timestamps = get_timestamp_embeddings(white(2, seconds), model)
    assert embeddings.dtype == torch.float32 and embeddings.ndim == 3 and timestamps.ndim == 2
    assert embeddings.shape == (2, timestamps.shape[1], model.timestamp_embedding_size) and len(timestamps) == 2
    times = timestamps.numpy().astype(np.float64)
    hops = np.diff(times)
    assert hops.max() <= 50.0 and np.abs(hops - hops.mean()).max() < 1e-2  # the validator allows 1 ms
    assert 0 <= times.min() <= hops.mean()
    assert 1000 * seconds - hops.mean() - 1 <= times.max() <= 1000 * seconds


def test_nothing_drifts_in_twenty_minutes(model: HearModel) -> None:
    """What the validator cannot see: a hop rounded to samples or milliseconds adds up."""
    spec, layer = model.network.spec, model.timestamp_layer
    samples = 20 * 60 * 22_050
    last = spec.steps(samples, layer) - 1
    short, timestamps = get_timestamp_embeddings(white(1, 3.0), model)
    hop = spec.stride(layer) * 1000 / 22_050
    expected = timestamps[0, 0].item() + np.arange(timestamps.shape[1]) * hop
    np.testing.assert_allclose(timestamps[0], expected, atol=1e-2)
    assert abs(spec.centre(last, layer) / samples - 1) < 1e-3 and short.shape[1] == timestamps.shape[1]


def test_an_event_is_found_at_its_time(model: HearModel) -> None:
    audio = torch.zeros(1, 3 * 22_050)
    audio[:, 33_000:33_200] = white(1, 1.0)[:, :200]  # at 1.5 s
    loud, timestamps = get_timestamp_embeddings(audio, model)
    quiet, _ = get_timestamp_embeddings(torch.zeros_like(audio), model)
    change = (loud - quiet).abs().sum(dim=2)[0]
    centre = (change * timestamps[0]).sum() / change.sum()
    assert centre.item() == pytest.approx(1000 * 33_100 / 22_050, abs=50)


def test_scenes_are_one_vector_each(model: HearModel) -> None:
    embeddings = get_scene_embeddings(white(4, 2.74), model)
    assert embeddings.dtype == torch.float32 and embeddings.shape == (4, model.scene_embedding_size)


def test_a_sound_has_the_same_embeddings_in_any_batch(model: HearModel) -> None:
    audio = white(5, 2.3)
    together, times = get_timestamp_embeddings(audio, model)
    alone = [get_timestamp_embeddings(each[None], model)[0] for each in audio]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert (times == times[0]).all()
    scenes = torch.cat([get_scene_embeddings(each[None], model) for each in audio])
    torch.testing.assert_close(get_scene_embeddings(audio, model), scenes, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 100, 700, 2_000, 5_000])
def test_the_shortest_sounds_have_embeddings_too(model: HearModel, samples: int) -> None:
    audio = white(3, 1.0)[:, :samples]
    embeddings, timestamps = get_timestamp_embeddings(audio, model)
    assert embeddings.shape[:2] == timestamps.shape and timestamps.shape[1] >= 1
    assert ((timestamps >= 0) & (timestamps <= 1000 * samples / 22_050)).all()
    assert get_scene_embeddings(audio, model).isfinite().all() and embeddings.isfinite().all()


def test_a_long_sound_is_that_of_one_pass(model: HearModel) -> None:
    audio = white(1, 50.0)
    with torch.no_grad():
        whole = model.network.features(256 * audio, [model.layer])[model.layer].mean(dim=2)
    torch.testing.assert_close(get_scene_embeddings(audio, model), whole, atol=1e-5, rtol=1e-4)


def test_a_missing_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_model(str(tmp_path / "absent.pt"))
