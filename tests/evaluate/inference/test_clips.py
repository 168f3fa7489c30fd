"""Sounds in clips: nothing is lost or said twice, whatever the pieces they come in."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.inference.posteriors import clips_of


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
