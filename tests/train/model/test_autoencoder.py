"""The autoencoder of Table 4: as long out as in, and the student's own encoder inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shards.cli.command import compose
from train.model.autoencoder import Autoencoder, reconstruction
from train.model.layers import StudentSpec
from train.model.student import Student

SAMPLE_RATE = 22_050


def autoencoder(seed: int = 0) -> Autoencoder:
    return Autoencoder(compose(StudentSpec, "student/autoencoder"), sample_rate=SAMPLE_RATE, seed=seed)


def test_four_layers_down_and_four_up() -> None:
    network = autoencoder()
    assert network.layers == ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4"]
    decoders = [module for module in network.modules() if isinstance(module, nn.ConvTranspose1d)]
    assert [decoder.stride for decoder in decoders] == [(2,), (2,), (16,), (16,)]
    assert [(decoder.in_channels, decoder.out_channels) for decoder in decoders] == [
        (128, 64),
        (64, 32),
        (32, 16),
        (16, 1),
    ]
    # every output sample is reached by equally many steps, and a layer is exactly `stride` times as long as its input
    assert all(decoder.kernel_size[0] % decoder.stride[0] == 0 for decoder in decoders)
    assert [decoder(torch.zeros(1, decoder.in_channels, 9)).shape[2] for decoder in decoders] == [18, 18, 144, 144]


@pytest.mark.parametrize("samples", [222, 1_000, 8_192, 22_050, 33_333])
def test_out_is_as_long_as_in(samples: int) -> None:
    assert autoencoder()(torch.zeros(2, samples)).shape == (2, samples)


def test_decoder_is_never_short_of_samples() -> None:
    network = autoencoder()
    shortest = network.min_samples()
    assert all(network.output_steps(samples) * 1024 >= samples for samples in range(shortest, shortest + 3 * 1024))
    assert network.output_steps(441_000) == 432


def test_features_are_those_of_a_student_with_the_same_weights() -> None:
    network = autoencoder().eval()
    student = Student(compose(StudentSpec, "student/soundnet8"), {"objects": 3}, sample_rate=SAMPLE_RATE, seed=1).eval()
    assert student.blocks.load_state_dict(network.blocks.state_dict(), strict=False).unexpected_keys == []
    waveform = 100 * torch.randn(1, 5_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = network.features(waveform, ["conv4"])["conv4"], student.features(waveform, ["conv4"])["conv4"]
    assert found.std() > 0 and torch.equal(found, expected)


def test_reconstruction_is_the_mean_squared_error() -> None:
    assert float(reconstruction(torch.tensor([[1.0, 2.0]]).bfloat16(), torch.tensor([[0.0, 4.0]]))) == 2.5
