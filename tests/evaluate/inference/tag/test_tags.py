"""Tags: the likely classes in the order of lift; what is silent or next to nothing is said to be so."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.inference.posteriors import PEAK_SECONDS, SoundPosteriors
from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.tags import SHORTEST, SILENT, SoundTags, Tag, strongest_tags, tags_of


def test_tags_fall_in_lift_among_what_is_likely() -> None:
    posterior, lift = np.array([0.24, 0.30, 0.25, 0.21]), np.array([100.0, 1.5, 4.0, 50.0])
    assert strongest_tags(posterior, lift, "abcd", 5) == [Tag("c", 0.25, 4.0), Tag("b", 0.30, 1.5)]
    over_itself = np.array([1, 1, 1 + 1e-9, 1])
    assert [tag.name for tag in strongest_tags(posterior, over_itself, "abcd", 1)] == ["b"]  # equal lifts: the likelier


def test_some_class_is_always_named() -> None:
    even = np.full(1000, 1 / 1000, np.float32)
    assert len(strongest_tags(even, np.ones(1000), [str(index) for index in range(1000)], 5)) == 5


def test_a_name_is_shown_without_its_synonyms() -> None:
    assert Tag("tench, Tinca tinca", 0.1, 2.0).short == "tench"


def tagged(seconds: float, *peaks: int) -> SoundTags:
    """A sound of parts of 1 s and one class, with the loudest sample of each."""
    begins = np.arange(len(peaks), dtype=np.float64)
    every = np.repeat(np.array(peaks, np.int16), round(1 / PEAK_SECONDS))
    posteriors = {"objects": np.full((len(peaks), 1), 1, np.float32)}
    sound = SoundPosteriors(seconds, begins, begins + 1, posteriors, {"objects": np.ones(1)}, every)
    return tags_of(sound, Baseline({"objects": np.ones(1)}, ""), {"objects": ["dog"]}, top=5)


def test_silence_is_said_and_not_named() -> None:
    found = tagged(4.0, 0, SILENT, SILENT + 1, 32_767)
    assert [part.unnamed for part in found.parts] == ["silent", "silent", None, None]
    assert [len(part.tags["objects"]) for part in found.parts] == [0, 0, 1, 1] and found.whole.unnamed is None
    assert 20 * np.log10(SILENT / 32_768) == pytest.approx(-50, abs=0.1)
    silent = tagged(2.0, 3, 3)
    assert silent.whole.unnamed == "silent" and silent.whole.tags == {"objects": []}


def test_next_to_nothing_is_said_and_not_named() -> None:
    assert {tagged(seconds, 9_000).whole.unnamed for seconds in (0.01, 0.099)} == {f"shorter than {SHORTEST:g} s"}
    assert tagged(SHORTEST, 9_000).whole.unnamed is None
