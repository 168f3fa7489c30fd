"""Entropies against SciPy's, means against the examples themselves."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from pipeline.report.sample import evenly, teacher_heads
from pipeline.report.teachers import entropy, teacher_stats


def test_entropy_is_scipys():
    rng = np.random.default_rng(0)
    posteriors = rng.dirichlet(np.full(50, 0.1), 30)
    posteriors[0] = np.eye(50)[3]
    posteriors[1] = 1 / 50
    np.testing.assert_allclose(entropy(posteriors), scipy_entropy(posteriors, axis=1), atol=1e-12)
    assert entropy(posteriors)[:2] == pytest.approx([0, np.log(50)])


def test_stats_over_all_clips(full):
    picks = evenly([("train-000000", 4), ("train-000001", 1), ("validation-000000", 1)], 99)
    first, second = teacher_stats(full.folder, teacher_heads(full.folder, full.manifest), picks)
    rows = np.concatenate([example.posteriors["objects"] for example in full.examples.values()]).astype(np.float64)
    assert len(first.entropies) == len(rows) == sum(first.histogram)
    np.testing.assert_allclose(np.sort(first.entropies), np.sort(scipy_entropy(rows, axis=1)), atol=1e-9)
    np.testing.assert_allclose(first.mean_posterior, rows.mean(axis=0), atol=1e-3)
    assert first.mean_entropy == pytest.approx(scipy_entropy(rows.sum(axis=0)), abs=1e-3)
    assert first.uniform_entropy == pytest.approx(np.log(6))
    top = Counter(rows.argmax(axis=1).tolist())
    name, share, mean = first.most_named(1)[0]
    index = first.teacher.card.classes.index(name)
    assert share == pytest.approx(max(top.values()) / len(rows))
    assert mean == pytest.approx(rows.mean(axis=0)[index], abs=1e-3)
    assert len(second.entropies) < len(first.entropies)  # it has labelled one shard of three


def test_sums_cover_what_the_sample_leaves_out(full):
    heads = teacher_heads(full.folder, full.manifest)
    (few, _), (all_of_them, _) = (
        teacher_stats(full.folder, heads, evenly([("train-000000", 4)], count)) for count in (1, 4)
    )
    assert len(few.entropies) < len(all_of_them.entropies)
    np.testing.assert_array_equal(few.mean_posterior, all_of_them.mean_posterior)
