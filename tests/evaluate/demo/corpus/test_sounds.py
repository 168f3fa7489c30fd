"""Families share their spectra and differ in order: judged by mean log spectra that the synthesis does not know."""

from collections import Counter

import numpy as np
import pytest

from evaluate.demo.corpus.sounds import FAMILIES, pairs, soundtrack
from evaluate.demo.corpus.synthesis import SAMPLE_RATE

CLIPS, SECONDS = 5, 4.0


def mean_log_spectrum(stereo):
    """Energy in 40 logarithmic bands (decibels against their mean), averaged over the clip."""
    pieces = stereo.mean(axis=0)[: len(stereo[0]) // 2_048 * 2_048].reshape(-1, 2_048)
    power = np.abs(np.fft.rfft(pieces * np.hanning(2_048))) ** 2
    edges = np.unique(np.geomspace(2, 1_024, 41).astype(int))
    bands = np.log10(np.add.reduceat(power.mean(axis=0), edges[:-1]) + 1e-12)
    return 10 * (bands - bands.mean())


@pytest.fixture(scope="module")
def spectra():
    """(families, clips, bands)."""
    return np.array([[mean_log_spectrum(draw(family, clip)) for clip in range(CLIPS)] for family in FAMILIES])


def draw(family, clip):
    return soundtrack(family, SECONDS, np.random.default_rng([clip, list(FAMILIES).index(family)]))


def distance(one, other):
    """Decibels between clips (clips, bands), the mean over all that are not the same clip."""
    between = np.sqrt(((one[:, None] - other[None]) ** 2).mean(axis=-1))
    return between[~np.eye(len(one), dtype=bool)].mean()


def mirror(family):
    (found,) = (name for name, sounds in FAMILIES.items() if sounds == FAMILIES[family][::-1])
    return found


def test_every_sound_is_as_often_first_as_second():
    first, second = (Counter(sounds[place] for sounds in FAMILIES.values()) for place in (0, 1))
    assert first == second and set(first.values()) == {2} and len(first) == 5
    assert len(set(FAMILIES.values())) == len(FAMILIES)


def test_spectra_cannot_tell_a_family_from_its_mirror_but_from_the_others(spectra):
    of = dict(zip(FAMILIES, spectra, strict=True))
    within = np.mean([distance(of[family], of[family]) for family in FAMILIES])
    mirrored = np.mean([distance(of[family], of[mirror(family)]) for family in FAMILIES])
    others = np.mean(
        [distance(of[one], of[other]) for one in FAMILIES for other in FAMILIES if other not in (one, mirror(one))]
    )
    assert mirrored == pytest.approx(within, rel=0.1)
    assert others > 1.05 * within


@pytest.mark.parametrize(("family", "first"), [("grass", "high"), ("gravel", "low")])
def test_order_tells_a_family_from_its_mirror(family, first):
    """Hiss and thud: the one's level foretells the other's a quarter of a second later, and not the other way round."""
    track = pairs(np.random.default_rng(0), 20.0, lambda: family)
    frames = track[: len(track) // 2_205 * 2_205].reshape(-1, 2_205)  # 50 ms
    power = np.abs(np.fft.rfft(frames)) ** 2
    low, high = power[:, 2:13].sum(axis=1), power[:, 150:400].sum(axis=1)  # 40 to 240 Hz, 3 to 8 kHz
    high_first, low_first = (np.corrcoef(one[:-5], other[5:])[0, 1] for one, other in ((high, low), (low, high)))
    assert (high_first > low_first + 0.3) if first == "high" else (low_first > high_first + 0.3)


def test_no_two_clips_are_alike(spectra):
    points = spectra.reshape(-1, spectra.shape[-1])
    between = np.sqrt(((points[:, None] - points[None]) ** 2).mean(axis=-1))
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
