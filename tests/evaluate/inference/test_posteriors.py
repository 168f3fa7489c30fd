"""Posteriors over time: those of the clips one by one, in pieces of any size, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.inference.posteriors import (
    Envelope,
    clips_of,
    posteriors_as_they_come,
    posteriors_of,
    posteriors_of_each,
)
from evaluate.model import EvaluatedModel
from shards.media.rejects import UnreadableMedia

RATE = 8000


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> EvaluatedModel:
    return EvaluatedModel.load(checkpoint, heads=True)


def noise(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    generator = np.random.default_rng(seed)
    loud = np.repeat(generator.uniform(0, 8000, round(seconds) + 1), RATE)[: round(seconds * RATE)]
    return (loud * generator.uniform(-1, 1, len(loud))).astype(np.int16)


def pieces(sound: NDArray[np.int16], size: int) -> Iterator[NDArray[np.int16]]:
    return (sound[at : at + size] for at in range(0, len(sound), size))


def softmax(model: EvaluatedModel, clip: NDArray[np.int16]) -> NDArray[np.float64]:
    """(steps, classes) of one clip, the softmax by hand."""
    with torch.no_grad():
        logits = model.network(256 / 32768 * torch.from_numpy(clip.astype(np.float32))[None])["objects"][0].T
    powers = np.exp(logits.numpy().astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_whole_clips_are_those_one_by_one(model: EvaluatedModel) -> None:
    sound = noise(6.0)
    found = posteriors_of(model, pieces(sound, 7001))
    expected = [softmax(model, sound[at : at + 2 * RATE]) for at in range(0, 6 * RATE, 2 * RATE)]
    steps = len(expected[0])
    np.testing.assert_allclose(found.posteriors["objects"], np.concatenate(expected), atol=1e-5)
    np.testing.assert_allclose(found.begins, np.arange(3 * steps) * 2 / steps)
    np.testing.assert_allclose(found.ends, np.append(found.begins[1:], 6.0))
    np.testing.assert_allclose(found.means["objects"], np.concatenate(expected).mean(axis=0), atol=1e-5)


def test_the_last_clip_reaches_back_and_gives_only_what_is_new(model: EvaluatedModel) -> None:
    sound = noise(2.7)
    found = posteriors_of(model, [sound])
    first, last = softmax(model, sound[: 2 * RATE]), softmax(model, sound[-2 * RATE :])
    part = 2.0 / len(first)
    begins = 0.7 + np.arange(len(last)) * part
    new = (begins + part > 2.0 + 1e-9) & (begins + part - np.maximum(begins, 2.0) >= 0.1 * part)
    np.testing.assert_allclose(found.posteriors["objects"], np.concatenate([first, last[new]]), atol=1e-5)
    assert found.begins[len(first)] >= 2.0 and found.ends[-1] == found.seconds == 2.7
    assert np.allclose(found.begins[1:], found.ends[:-1], atol=0.1 * part)


def test_a_short_sound_is_repeated_and_its_mean_is_over_all_of_the_clip(model: EvaluatedModel) -> None:
    sound = noise(0.75)
    found = posteriors_of(model, [sound])
    expected = softmax(model, np.concatenate([sound] * 3)[: 2 * RATE])
    rows = len(found.begins)
    assert found.ends[-1] == found.seconds == 0.75 and (found.begins < 0.75).all() and rows < len(expected)
    np.testing.assert_allclose(found.posteriors["objects"], expected[:rows], atol=1e-5)
    np.testing.assert_allclose(found.means["objects"], expected.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("size", [1000, 8000, 50_000])
def test_pieces_do_not_matter(model: EvaluatedModel, size: int) -> None:
    sound = noise(13.3)
    whole, parts = posteriors_of(model, [sound]), posteriors_of(model, pieces(sound, size))
    assert np.array_equal(whole.posteriors["objects"], parts.posteriors["objects"])
    assert np.array_equal(whole.peaks, parts.peaks) and np.array_equal(whole.ends, parts.ends)


def test_memory_holds_a_batch_of_clips_and_the_rows(model: EvaluatedModel) -> None:
    second = noise(1.0)

    def highest(seconds: int) -> int:
        tracemalloc.start()
        posteriors_of(model, (second for _ in range(seconds)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    highest(10)
    grown = highest(700) - highest(200)
    sound = 500 * RATE * 2  # bytes
    assert grown < sound / 2  # rows of this student's 29 steps a clip, not samples


def test_the_envelope_is_the_loudest_sample_of_each_quarter_second() -> None:
    sound = np.array([1, -5, 3, 0, 0, 0, -32768, 2, 7], np.int16)
    envelope = Envelope(3)
    assert [len(piece) for piece in envelope.watch([sound[:2], sound[2:8], sound[8:]])] == [2, 6, 1]
    assert envelope.peaks.tolist() == [5, 0, 32767]
    assert Envelope(3).peaks.tolist() == []


@pytest.mark.parametrize("length", [1, 7, 10, 11, 20, 25, 39])
@pytest.mark.parametrize("piece", [1, 4, 10, 23, 100])
def test_clips_hold_every_sample_once_as_new(length: int, piece: int) -> None:
    sound = np.arange(1, length + 1, dtype=np.int16)
    clips = list(clips_of((sound[at : at + piece] for at in range(0, length, piece)), 10))
    assert all(len(clip.waveform) == 10 for clip in clips) and len(clips) == -(-length // 10)
    new = [clip.waveform[clip.fresh - clip.first : clip.sound] for clip in clips]
    assert np.array_equal(np.concatenate(new), sound)
    for clip in clips:
        assert np.array_equal(clip.waveform[: clip.sound], sound[clip.first : clip.end])


def test_a_short_sound_goes_round_in_a_circle() -> None:
    (clip,) = clips_of([np.array([1, 2, 3], np.int16)], 8)
    assert clip.waveform.tolist() == [1, 2, 3, 1, 2, 3, 1, 2] and (clip.fresh, clip.end) == (0, 3)


def test_no_sound_is_no_clip() -> None:
    assert list(clips_of([], 8)) == list(clips_of([np.empty(0, np.int16)], 8)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_sounds_together_are_those_alone_and_one_that_breaks_off_is_no_hindrance(
    model: EvaluatedModel, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.device.threads.available_threads", lambda: threads)
    sounds = [noise(seconds, seed=index) for index, seconds in enumerate((0.75, 5.3, 2.0, 9.1, 0.0, 2.7))]

    def broken() -> Iterator[NDArray[np.int16]]:
        yield from pieces(noise(4.5), 5000)
        raise UnreadableMedia("damaged", "here it ends")

    first, fault, *others = posteriors_of_each(
        model, [pieces(sounds[0], 900), broken(), *(pieces(sound, 4001) for sound in sounds[1:])]
    )
    assert isinstance(fault, UnreadableMedia) and fault.reason == "damaged"
    for sound, found in zip(sounds, [first, *others], strict=True):
        alone = posteriors_of(model, [sound])
        assert not isinstance(found, UnreadableMedia)
        assert (
            found.seconds == alone.seconds == len(sound) / RATE and found.posteriors.keys() == alone.posteriors.keys()
        )
        np.testing.assert_array_equal(found.begins, alone.begins)
        np.testing.assert_array_equal(found.peaks, alone.peaks)
        for head, posteriors in found.posteriors.items():
            np.testing.assert_allclose(posteriors, alone.posteriors[head], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found.means[head], alone.means[head], rtol=1e-5, atol=1e-7)
    with pytest.raises(UnreadableMedia, match="here it ends"):
        posteriors_of(model, broken())


def test_answers_come_while_a_sound_is_heard(model: EvaluatedModel) -> None:
    sound = noise(19.5)  # 10 clips of 2 s
    found, whole = list(posteriors_as_they_come(model, pieces(sound, 9_000))), posteriors_of(model, [sound])
    assert len(found) == 3 and len(found[0].begins) < len(found[1].begins) < len(found[2].begins)
    for each in found:
        rows = len(each.begins)
        assert np.array_equal(each.begins, whole.begins[:rows])
        assert np.allclose(each.posteriors["objects"], whole.posteriors["objects"][:rows], atol=1e-6)
    assert found[-1].seconds == whole.seconds and np.array_equal(found[-1].ends, whole.ends)


def test_a_sound_that_breaks_off_raises(model: EvaluatedModel) -> None:
    def broken() -> Iterator[NDArray[np.int16]]:
        yield noise(5.0)
        raise UnreadableMedia("damaged", "here")

    with pytest.raises(UnreadableMedia, match="here"):
        list(posteriors_as_they_come(model, broken()))
