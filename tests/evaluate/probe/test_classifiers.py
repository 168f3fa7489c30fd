"""The SVM against a problem solved by hand per window, and the choice of C against a plain nested loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from evaluate.probe import classifiers
from evaluate.probe.classifiers import FittedClassifier, LinearSVM, by_class, fit_svm
from evaluate.probe.features.windows import Windows


def problem(recordings: int = 30, windows: int = 4, classes: int = 3, noise: float = 1.0) -> tuple[Windows, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(recordings) % classes
    centres = generator.normal(size=(classes, 6))
    owners = np.repeat(np.arange(recordings), windows)
    values = centres[labels[owners]] + noise * generator.normal(size=(len(owners), 6))
    return Windows(values.astype(np.float32), owners), labels


def test_planes_minimise_the_squared_hinge() -> None:
    windows, labels = problem()
    penalty = 0.05
    truth = labels[windows.recordings]
    values = np.hstack([windows.values.astype(np.float64), np.ones((len(windows.values), 1))])  # -B 1
    columns = []
    for label in range(3):
        sign = np.where(truth == label, 1.0, -1.0)

        def objective(plane: np.ndarray, sign: np.ndarray = sign) -> float:
            return 0.5 * plane @ plane + penalty * (np.maximum(0, 1 - sign * (values @ plane)) ** 2).sum()

        columns.append(values @ minimize(objective, np.zeros(7), method="BFGS", tol=1e-10).x)
    decisions = np.stack(columns, axis=1)
    expected = np.stack([decisions[windows.recordings == index].mean(axis=0) for index in range(30)])
    found = fit_svm(windows, labels, penalty).score(windows)
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_c_is_chosen_by_a_nested_loop_over_recordings() -> None:
    windows, labels = problem(noise=2.5)
    inner = np.arange(30) % 5
    grid = (1e-4, 1e-2, 1.0)
    right = []
    for candidate in grid:
        count = 0
        for fold in range(5):
            training = inner[windows.recordings] != fold
            svm = LinearSVC(C=candidate, tol=0.01, dual=False)
            svm.fit(windows.values[training], labels[windows.recordings[training]])
            for recording in np.nonzero(inner == fold)[0]:
                mean = svm.decision_function(windows.values[windows.recordings == recording]).mean(axis=0)
                count += mean.argmax() == labels[recording]
        right.append(count)
    assert len(set(right)) > 1  # or there would be nothing to choose
    chosen = LinearSVM(None, grid).fit(windows, labels, inner).C
    assert chosen == grid[int(np.argmax(right))]


def test_an_svm_that_two_folds_need_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the data's own five folds: all but i and j, for each of the 10 pairs, and the SVM of each fold's own C."""
    windows, labels = problem(noise=2.5)
    folds, fitted = np.arange(30) % 5, []

    def counting(windows: Windows, labels: np.ndarray, C: float) -> FittedClassifier:  # noqa: N803
        fitted.append((C, len(labels)))
        return fit_svm(windows, labels, C)

    def choose(svm: LinearSVM, fold: int) -> float | None:
        (train,) = np.nonzero(folds != fold)
        return svm.fit(windows.of(train), labels[train], folds[train]).C

    monkeypatch.setattr(classifiers, "fit_svm", counting)
    svm = LinearSVM(None, (1e-4, 1e-2))
    together = [choose(svm, fold) for fold in range(5)]
    assert sorted(fitted) == sorted(
        [(1e-4, 18)] * 10 + [(1e-2, 18)] * 10 + [(C, 24) for C in together if C is not None]
    )
    assert together == [choose(LinearSVM(None, (1e-4, 1e-2)), fold) for fold in range(5)]


def test_threads_choose_what_one_thread_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, labels = problem(noise=2.5)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(classifiers, "available_threads", lambda threads=threads: threads)
        fitted = LinearSVM().fit(windows, labels, np.arange(30) % 5)
        found.append((fitted.C, fitted.score(windows).tobytes()))
    assert found[0] == found[1]


def test_a_c_at_the_edge_of_the_grid_is_named() -> None:
    windows, labels = problem(noise=2.5)
    inner = np.arange(30) % 5
    best = LinearSVM().fit(windows, labels, inner)
    assert best.C is not None and 1e-5 < best.C < 1 and best.remarks == ()
    (least,) = LinearSVM(None, (best.C, 1e6 * best.C)).fit(windows, labels, inner).remarks
    assert least == f"C={best.C:g} is at the grid's edge: a smaller one may be better"
    (most,) = LinearSVM(None, (1e-9, best.C)).fit(windows, labels, inner).remarks
    assert "a larger one may be better" in most
    assert LinearSVM(best.C).fit(windows, labels, inner).remarks == ()  # nothing was chosen


def test_of_equally_good_cs_the_smallest_is_taken() -> None:
    windows, labels = problem(noise=0.01)
    assert LinearSVM(None, (1.0, 0.1, 10.0)).fit(windows, labels, np.arange(30) % 3).C == 0.1


def test_a_c_that_the_solver_cannot_finish_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, labels = problem(noise=2.5)
    inner = np.arange(30) % 3
    assert not any("no end" in each for each in LinearSVM(None, (1e-9, 1.0)).fit(windows, labels, inner).remarks)
    monkeypatch.setattr(classifiers, "MOST_STEPS", 3)
    chosen = LinearSVM(None, (1e-9, 1.0)).fit(windows, labels, inner)
    assert chosen.converged and chosen.C == 1e-9
    assert chosen.remarks[0] == "with C=1 the solver came to no end: it is not chosen"
    assert LinearSVM(1.0).fit(windows, labels, inner).remarks == ("with C=1 the solver came to no end",)


def test_a_fixed_c_is_used_as_it_is() -> None:
    windows, labels = problem()
    assert LinearSVM(0.3).fit(windows, labels, np.zeros(30, np.int64)).C == 0.3


def test_two_classes() -> None:
    windows, labels = problem(classes=2, noise=0.1)
    scores = fit_svm(windows, labels, 1.0).score(windows)
    assert scores.shape == (30, 2) and np.array_equal(scores.argmax(axis=1), labels)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1])


def test_a_class_that_was_not_seen_is_not_named() -> None:
    placed = by_class(np.array([[1.0, -2.0]]), np.array([0, 2]))
    assert placed.tolist() == [[1.0, -np.inf, -2.0]]


def test_the_same_twice() -> None:
    windows, labels = problem()
    assert np.array_equal(fit_svm(windows, labels, 0.01).score(windows), fit_svm(windows, labels, 0.01).score(windows))


def test_whether_the_solver_came_to_an_end_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, labels = problem(noise=3.0)
    assert fit_svm(windows, labels, 1.0).converged
    monkeypatch.setattr(classifiers, "MOST_STEPS", 3)
    assert not fit_svm(windows, labels, 1.0).converged
