"""Lift: posterior over mean; what the mean is over, and that it comes back from its file for the same network alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.inference.posteriors import SoundPosteriors
from evaluate.inference.tag.baseline import LEAST_SHARE, Baseline
from shards.errors import ContractError, UserError
from train.checkpoint.checkpoint import load


def sound(seconds: float, *means: float) -> SoundPosteriors:
    nothing = np.empty(0)
    return SoundPosteriors(seconds, nothing, nothing, {}, {"objects": np.array(means)}, nothing.astype(np.int16))


def test_lift_is_the_posterior_over_the_mean() -> None:
    base = Baseline({"objects": np.array([0.5, 0.4, 0.1])}, "")
    assert base.lift("objects", np.array([0.25, 0.4, 0.35])).tolist() == pytest.approx([0.5, 1.0, 3.5])
    assert base.lift("objects", np.ones((2, 3))).shape == (2, 3)


def test_a_class_that_never_came_up_has_a_finite_lift() -> None:
    base = Baseline({"objects": np.array([1.0, 0.0])}, "")
    assert base.lift("objects", np.array([0.5, 0.5]))[1] == pytest.approx(0.5 / (LEAST_SHARE / 2))


def test_the_mean_of_sounds_is_by_their_length() -> None:
    base = Baseline.of([sound(1.0, 0.9, 0.1), sound(3.0, 0.1, 0.9)], "two sounds")
    assert base.means["objects"].tolist() == pytest.approx([0.3, 0.7]) and base.origin == "the mean over two sounds"


def test_a_checkpoint_may_know_a_mean(checkpoint: Path) -> None:
    without = load(checkpoint)
    assert Baseline.known(without) is None
    known = Baseline.known(replace(without, training_mean={"objects": torch.tensor([0.2, 0.3, 0.5])}))
    assert known is not None and known.means["objects"].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert known.origin == "the mean over the checkpoint's training set"


def test_a_file_gives_the_mean_back_to_the_same_network_alone(checkpoint: Path, tmp_path: Path) -> None:
    network = load(checkpoint)
    base = Baseline({"objects": np.array([0.123456789, 0.3, 0.576543211])}, "two sounds")
    base.save(tmp_path / "new" / "base.json", network)
    again = Baseline.load(tmp_path / "new" / "base.json", network)
    assert again.over == "two sounds"
    np.testing.assert_allclose(again.means["objects"], base.means["objects"], rtol=5e-4)
    name = next(iter(network.network))
    other = replace(network, network=network.network | {name: network.network[name] + 1})
    with pytest.raises(ContractError, match=r"base=.*base\.json was made with a network whose weights have sha256"):
        Baseline.load(tmp_path / "new" / "base.json", other)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"means": {"objects": ["a"]}}', '{"means": 3, "network": "", "over": ""}']
)
def test_another_file_is_one_line(checkpoint: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"base=.*base\.json is not a file that save_base= wrote"):
        Baseline.load(path, load(checkpoint))
    path.write_text(json.dumps({"means": {"objects": [1.0]}, "network": load(checkpoint).network_sha256, "over": ""}))
    with pytest.raises(ContractError, match="make it again"):
        Baseline.load(path, load(checkpoint))
    path.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Baseline.load(path, load(checkpoint))
