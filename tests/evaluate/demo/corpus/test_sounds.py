"""Sounds of one family are alike and never equal: judged by mean log spectra, which the synthesis knows nothing of."""

import numpy as np
import pytest

from evaluate.demo.corpus.sounds import FAMILIES, soundtrack
from evaluate.demo.corpus.synthesis import SAMPLE_RATE

CLIPS, SECONDS = 4, 6.0


def mean_log_spectrum(stereo):
    """Energy in 40 logarithmic bands (decibels against their mean), averaged over the clip."""
    pieces = stereo.mean(axis=0)[: len(stereo[0]) // 2_048 * 2_048].reshape(-1, 2_048)
    power = np.abs(np.fft.rfft(pieces * np.hanning(2_048))) ** 2
    edges = np.unique(np.geomspace(2, 1_024, 41).astype(int))
    bands = np.log10(np.add.reduceat(power.mean(axis=0), edges[:-1]) + 1e-12)
    return 10 * (bands - bands.mean())


@pytest.fixture(scope="module")
def spectra():
    draws = {
        family: [soundtrack(family, SECONDS, np.random.default_rng([clip, number])) for clip in range(CLIPS)]
        for number, family in enumerate(FAMILIES)
    }
    return {family: np.stack([mean_log_spectrum(sound) for sound in sounds]) for family, sounds in draws.items()}


def distances(spectra):
    """(clips, clips) and the family of each clip."""
    points = np.concatenate(list(spectra.values()))
    return np.sqrt(((points[:, None] - points[None]) ** 2).mean(axis=-1)), np.repeat(list(spectra), CLIPS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_closer_to_itself_than_to_the_others(spectra, family):
    between, families = distances(spectra)
    own = families == family
    within = between[np.ix_(own, own)].sum() / (CLIPS * (CLIPS - 1))
    across = between[np.ix_(own, ~own)].mean()
    assert within < 0.8 * across


def test_the_nearest_clip_is_mostly_of_the_same_family_but_spectra_alone_do_not_settle_it(spectra):
    between, families = distances(spectra)
    np.fill_diagonal(between, np.inf)
    right = (families[between.argmin(axis=1)] == families).mean()
    assert right > 0.7  # by chance: 0.077


def test_no_two_clips_of_a_family_are_alike(spectra):
    between, _ = distances(spectra)
    np.fill_diagonal(between, np.inf)
    assert between.min() > 0.5  # decibels


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seconds", [0.6, 5.04])
def test_sound_has_its_length_and_stays_within_full_scale(family, seconds):
    sound = soundtrack(family, seconds, np.random.default_rng(1))
    assert sound.shape == (2, round(seconds * SAMPLE_RATE))
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()
    assert 0.001 < np.abs(sound).max() <= 1


def test_the_same_seed_gives_the_same_sound():
    one, two, other = (soundtrack("chelsea", 2.0, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
