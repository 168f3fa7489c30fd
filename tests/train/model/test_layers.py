"""The tables of the paper, as the authors' networks run: every length, and where a step of the output looks."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shards.cli.command import compose
from shards.cli.settings import build
from shards.errors import UserError
from train.model.layers import Layer, StudentSpec

SAMPLE_RATE = 22_050


def spec_of(name: str) -> StudentSpec:
    return compose(StudentSpec, f"student/{name}")


def lengths(spec: StudentSpec, samples: int) -> list[int]:
    return [spec.steps(samples, layer.name) for layer in spec.through()]


def test_soundnet8_lengths_for_20_s() -> None:
    found = lengths(spec_of("soundnet8"), 441_000)
    assert found == [220_501, 27_562, 13_782, 1_722, 862, 432, 217, 54, 28, 15, 4]
    # Table 1 prints 220,050 and 27,506 for the first two. These are misprints: its other lengths follow from ours only.
    table_1 = [220_050, 27_506, 13_782, 1_722, 862, 432, 217, 54, 28, 15, 4]
    assert found[2:] == table_1[2:] and found[:2] != table_1[:2]
    conv2 = Layer("conv2", 32, 2, 16, 32)
    assert conv2.steps(27_562) == 13_782 != conv2.steps(27_506)


def test_soundnet8_pools_move_by_their_kernel() -> None:
    """Table 1 prints a stride of 1 for the pools: with it 20 s would never come down to 4 steps."""
    pools = [layer for layer in spec_of("soundnet8").layers if layer.is_pool]
    assert [(pool.name, pool.kernel, pool.stride) for pool in pools] == [
        ("pool1", 8, 8),
        ("pool2", 8, 8),
        ("pool5", 4, 4),
    ]


def test_soundnet5_lengths_for_20_s() -> None:
    found = lengths(spec_of("soundnet5"), 441_000)
    assert found == [220_501, 27_562, 13_782, 1_722, 862, 107, 54, 4]
    # Table 2 repeats the first eight of Table 1, which contradicts its own pool3 (8/8) and conv5 (16/12).
    table_2 = [220_050, 27_506, 13_782, 1_722, 862, 432, 217, 54]
    assert found[2:5] == table_2[2:5] and found[5:] != table_2[5:]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (220_500, [110_251, 13_781, 6_891, 861, 431, 216, 109, 27, 14, 8, 1]),
        (110_250, [55_126, 6_890, 3_446, 430, 216, 109, 55, 13, 7, 4, 0]),
        (22_050, [11_026, 1_378, 690, 86, 44, 23, 12, 3, 2, 2, 0]),
        (661_500, [330_751, 41_343, 20_672, 2_584, 1_293, 647, 324, 81, 41, 21, 7]),
    ],
)
def test_soundnet8_other_lengths(samples: int, expected: list[int]) -> None:
    assert lengths(spec_of("soundnet8"), samples) == expected


@pytest.mark.parametrize(
    ("name", "layer", "shortest"),
    [("soundnet8", "conv8", 209_374), ("soundnet8", "pool5", 4_574), ("soundnet5", None, 56_798)],
)
def test_shortest_input(name: str, layer: str | None, shortest: int) -> None:
    spec = spec_of(name)
    assert spec.min_samples(layer) == shortest
    assert spec.steps(shortest, layer) == 1 and spec.steps(shortest - 1, layer) == 0


@pytest.mark.parametrize(
    ("name", "field_seconds", "stride_seconds", "centres"),
    [("soundnet8", 14.5, 2.97, [4.75, 7.72, 10.69, 13.66]), ("soundnet5", 7.2, 4.46, [1.29, 5.75, 10.20, 14.66])],
)
def test_where_output_steps_look(name: str, field_seconds: float, stride_seconds: float, centres: list[float]) -> None:
    spec = spec_of(name)
    assert round(spec.receptive_field() / SAMPLE_RATE, 1) == field_seconds
    assert round(spec.stride() / SAMPLE_RATE, 2) == stride_seconds
    assert [round(spec.centre(step) / SAMPLE_RATE, 2) for step in range(4)] == centres


@pytest.mark.parametrize("name", ["soundnet8", "soundnet5"])
def test_receptive_field_by_following_a_step_down(name: str) -> None:
    spec = spec_of(name)
    for layer in spec.through():
        first = last = 3  # the fourth step of this layer
        for below in reversed(spec.through(layer.name)):
            first, last = first * below.stride - below.padding, last * below.stride - below.padding + below.kernel - 1
        assert spec.receptive_field(layer.name) == last - first + 1
        assert spec.centre(3, layer.name) == (first + last) / 2


def test_autoencoder_takes_soundnet8s_layers() -> None:
    autoencoder, soundnet8 = spec_of("autoencoder"), spec_of("soundnet8")
    assert (autoencoder.kind, autoencoder.layers) == ("autoencoder", soundnet8.layers)


@pytest.mark.parametrize("name", ["soundnet5", "resnet1d"])
def test_spec_comes_back_from_plain_values(name: str) -> None:
    spec = spec_of(name)
    assert build(StudentSpec, asdict(spec)) == spec


def test_unknown_layer_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no layer pool3: choose among conv1, .*pool5, .*conv8"):
        spec_of("soundnet8").through("pool3")


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="stride=0"):
        Layer("conv1", 8, 0)
    conv = Layer("conv1", 8, 2, 0, 4)
    with pytest.raises(ValueError, match="same name"):
        StudentSpec("twice", [conv, conv], Layer("out", 2, 1))
    with pytest.raises(ValueError, match="first layer"):
        StudentSpec("pool first", [Layer("pool1", 8, 8)], Layer("out", 2, 1))


def layers(count: int) -> st.SearchStrategy[Layer]:
    """Convolutions and pools of any kernel, stride and padding; the first is a convolution."""
    filters = st.just(2) if count == 0 else st.sampled_from([2, None])
    return st.builds(Layer, st.just(f"layer{count}"), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), filters)


@settings(derandomize=True, max_examples=150)
@given(st.tuples(*(layers(count) for count in range(3))), layers(3), st.integers(1, 400))
def test_output_steps_are_the_places_where_kernels_fit(hidden: tuple[Layer, ...], output: Layer, samples: int) -> None:
    """The closed formula, floor((length + 2 padding - kernel) / stride) + 1, as a count of places, layer by layer."""
    spec = StudentSpec("any", list(hidden), output)
    length = samples
    for layer in [*hidden, output]:
        padded = length + 2 * layer.padding if length else 0
        length = sum(1 for place in range(0, padded, layer.stride) if place + layer.kernel <= padded)
        assert spec.steps(samples, layer.name) == length
    shortest = next(count for count in range(1, 10_000) if spec.steps(count) > 0)
    assume(all(layer.padding < layer.kernel for layer in [*hidden, output]))
    assert spec.min_samples() == shortest
