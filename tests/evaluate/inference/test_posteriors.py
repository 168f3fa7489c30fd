"""What a student says over time: as asked clip by clip at once, in pieces of any size, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.inference.posteriors import Peaks, hear
from shards.format.clip import ClipSpec
from train.checkpoint.checkpoint import load_student
from train.model.student import Student

RATE = 8000


@pytest.fixture(scope="module")
def asked(checkpoint: Path) -> tuple[Student, ClipSpec]:
    torch.set_num_threads(1)
    student, found = load_student(checkpoint)
    return student, found.clip


def noise(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    generator = np.random.default_rng(seed)
    loud = np.repeat(generator.uniform(0, 8000, round(seconds) + 1), RATE)[: round(seconds * RATE)]
    return (loud * generator.uniform(-1, 1, len(loud))).astype(np.int16)


def pieces(sound: NDArray[np.int16], size: int) -> Iterator[NDArray[np.int16]]:
    return (sound[at : at + size] for at in range(0, len(sound), size))


def softmax(student: Student, clip: NDArray[np.int16]) -> NDArray[np.float64]:
    """(steps, classes) of one clip, the softmax by hand."""
    with torch.no_grad():
        logits = student(256 / 32768 * torch.from_numpy(clip.astype(np.float32))[None])["objects"][0].T
    powers = np.exp(logits.numpy().astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_whole_clips_are_asked_one_by_one(asked: tuple[Student, ClipSpec]) -> None:
    sound = noise(6.0)
    heard = hear(*asked, pieces(sound, 7001))
    said = [softmax(asked[0], sound[at : at + 2 * RATE]) for at in range(0, 6 * RATE, 2 * RATE)]
    steps = len(said[0])
    np.testing.assert_allclose(heard.posteriors["objects"], np.concatenate(said), atol=1e-5)
    np.testing.assert_allclose(heard.begins, np.arange(3 * steps) * 2 / steps)
    np.testing.assert_allclose(heard.ends, np.append(heard.begins[1:], 6.0))
    np.testing.assert_allclose(heard.means["objects"], np.concatenate(said).mean(axis=0), atol=1e-5)


def test_the_last_clip_reaches_back_and_tells_only_what_is_new(asked: tuple[Student, ClipSpec]) -> None:
    sound = noise(2.7)
    heard = hear(*asked, [sound])
    first, last = softmax(asked[0], sound[: 2 * RATE]), softmax(asked[0], sound[-2 * RATE :])
    part = 2.0 / len(first)
    begins = 0.7 + np.arange(len(last)) * part
    new = (begins + part > 2.0 + 1e-9) & (begins + part - np.maximum(begins, 2.0) >= 0.1 * part)
    np.testing.assert_allclose(heard.posteriors["objects"], np.concatenate([first, last[new]]), atol=1e-5)
    assert heard.begins[len(first)] >= 2.0 and heard.ends[-1] == heard.seconds == 2.7
    assert np.allclose(heard.begins[1:], heard.ends[:-1], atol=0.1 * part)


def test_a_short_sound_is_repeated_and_its_mean_is_over_all_of_the_clip(asked: tuple[Student, ClipSpec]) -> None:
    sound = noise(0.75)
    heard = hear(*asked, [sound])
    said = softmax(asked[0], np.concatenate([sound] * 3)[: 2 * RATE])
    rows = len(heard.begins)
    assert heard.ends[-1] == heard.seconds == 0.75 and (heard.begins < 0.75).all() and rows < len(said)
    np.testing.assert_allclose(heard.posteriors["objects"], said[:rows], atol=1e-5)
    np.testing.assert_allclose(heard.means["objects"], said.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("size", [1000, 8000, 50_000])
def test_pieces_do_not_matter(asked: tuple[Student, ClipSpec], size: int) -> None:
    sound = noise(13.3)
    whole, parts = hear(*asked, [sound]), hear(*asked, pieces(sound, size))
    assert np.array_equal(whole.posteriors["objects"], parts.posteriors["objects"])
    assert np.array_equal(whole.peaks, parts.peaks) and np.array_equal(whole.ends, parts.ends)


def test_memory_holds_a_batch_of_clips_and_what_was_said(asked: tuple[Student, ClipSpec]) -> None:
    second = noise(1.0)

    def highest(seconds: int) -> int:
        tracemalloc.start()
        hear(*asked, (second for _ in range(seconds)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    highest(10)
    grown = highest(700) - highest(200)
    sound = 500 * RATE * 2  # bytes
    assert grown < sound / 2  # rows of this student's 29 steps a clip, not samples


def test_the_envelope_is_the_loudest_sample_of_each_quarter_second() -> None:
    sound = np.array([1, -5, 3, 0, 0, 0, -32768, 2, 7], np.int16)
    peaks = Peaks(3)
    assert [len(piece) for piece in peaks.watch([sound[:2], sound[2:8], sound[8:]])] == [2, 6, 1]
    assert peaks.found.tolist() == [5, 0, 32767]
    assert Peaks(3).found.tolist() == []
