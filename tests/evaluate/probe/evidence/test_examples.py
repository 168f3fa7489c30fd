"""Clips as examples: features against torch, windows averaged, short clips repeated, and what stays together."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.probe.evidence.examples import examples_of, pooled, some, sources_of
from shards.errors import UserError
from shards.format.example import video_of
from shards.format.shard import examples
from shards.format.sidefile import finished
from shards.loader.catalog import load_catalog
from shards.loader.streaming import Streaming
from tests.shards.conftest import CLIP, write_shards
from train.model.layers import Layer, StudentSpec
from train.model.student import Student, scaled


@pytest.fixture
def network() -> Student:
    layers = [Layer("conv1", 16, 8, 4, 4), Layer("pool1", 4, 4)]
    return Student(StudentSpec("two", layers, Layer("conv2", 3, 1)), {"objects": 7}, sample_rate=1000).eval()


def test_examples_are_what_the_shards_hold(network: Student, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, {"train-000000": 4, "train-000001": 3})
    found = examples_of([network, network], "pool1", load_catalog(str(shards), "train"), Streaming())
    written = [example for side in finished(shards) for example in examples(shards, side, CLIP.sample_rate)]
    assert found.keys == [example.key for example in written] and len(found.features) == 2
    for row, example in enumerate(written):
        mean = example.posteriors["objects"].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.posteriors["objects"][row], mean, rtol=1e-12)
        whole = np.tile(example.waveform, 2)[: CLIP.samples]  # every third is half as long, and repeated
        with torch.no_grad():
            (values,) = network.features(scaled(torch.from_numpy(whole)[None]), ["pool1"])["pool1"].double().numpy()
        expected = [*values.mean(axis=1), *np.sqrt((values**2).mean(axis=1) - values.mean(axis=1) ** 2)]
        np.testing.assert_allclose(found.features[0][row], expected, rtol=1e-4, atol=1e-5)


def test_a_clip_too_short_for_the_layer_goes_round_in_a_circle(network: Student) -> None:
    samples = network.min_samples("conv2") // 3
    waveforms = np.random.default_rng(0).integers(-(2**15), 2**15, (2, samples), dtype=np.int16)
    assert pooled(network, "conv2", waveforms).shape == (2, 14)
    assert not np.array_equal(*pooled(network, "conv2", waveforms))


def test_what_is_damaged_stops_or_is_named_and_left_out(
    network: Student, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write_shards(tmp_path, {"train-000000": 4})
    (side,) = finished(shards)
    offset, _ = side.members["wav"][1] or (0, 0)
    with open(shards / "train-000000.tar", "r+b") as stream:
        stream.seek(offset + 500)
        stream.write(b"\x55" * 40)
    catalog = load_catalog(str(shards), "train")
    with pytest.raises(UserError, match=r"train-000000%2Emp4-00001\.wav: .*streaming\.on_bad_shard=skip"):
        examples_of([network], "pool1", catalog, Streaming())
    found = examples_of([network], "pool1", catalog, Streaming(on_bad_shard="skip"))
    assert found.keys == [key for row, key in enumerate(side.keys) if row != 1]
    assert "left out: " in (said := capsys.readouterr().err) and "00001.wav" in said


def test_a_network_that_gives_no_numbers_is_refused(network: Student, tmp_path: Path) -> None:
    with torch.no_grad():
        network.get_parameter("blocks.conv1.conv.weight").fill_(torch.inf)
    catalog = load_catalog(str(write_shards(tmp_path, {"train-000000": 2})), "train")
    with pytest.raises(UserError, match=r"pool1 of train-000000%2Emp4-00000 holds NaN or infinite values"):
        examples_of([network], "pool1", catalog, Streaming())


def test_whole_videos_are_drawn(tmp_path: Path) -> None:
    catalog = load_catalog(str(write_shards(tmp_path, {f"train-{shard:06}": 3 for shard in range(6)})), "train")
    few = some(catalog, 10)
    assert Counter(video_of(str(key)) for key in few.keys).most_common()[-1][1] == 3 and few.clips == 9
    assert some(catalog, 1).clips == 3 and some(catalog, 99).clips == 18


def test_groups_of_the_plan_then_files_keep_clips_together(tmp_path: Path) -> None:
    keys = ["a%2Emp4-00000", "a%2Emp4+10+20-00000", "b%2Emp4-00003"]
    assert sources_of(keys, str(tmp_path)) == ["a%2Emp4", "a%2Emp4", "b%2Emp4"]
    videos = [{"key": video_of(key), "path": "x.mp4", "bytes": 1, "group": "one"} for key in keys[:2]]
    row = {"shard": "train-000000", "videos": [*videos, {"key": "b%2Emp4", "path": "b.mp4", "bytes": 1}]}
    plan = tmp_path / "plan.jsonl"
    plan.write_text(json.dumps(row) + '\n{"shard": "train-0000')  # a run is writing
    before = plan.read_bytes()
    assert sources_of(keys, str(tmp_path)) == ["one", "one", "b%2Emp4"]
    assert plan.read_bytes() == before
    plan.write_text('{"shard": \n')
    with pytest.raises(UserError, match=r"plan\.jsonl is no plan of shards"):
        sources_of(keys, str(tmp_path))
