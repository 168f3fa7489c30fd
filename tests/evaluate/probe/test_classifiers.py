"""The SVM against a problem solved by hand per window, and the choice of C against a plain nested loop."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from evaluate.probe.classifiers import LinearSVM, by_class, fit_svm
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
    # The dual solver stops early, as liblinear does: near, and the same class for every recording.
    found = fit_svm(windows, labels, penalty).score(windows)
    np.testing.assert_allclose(found, expected, atol=0.02)
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
            svm = LinearSVC(C=candidate, tol=0.1, dual=True, random_state=0)
            svm.fit(windows.values[training], labels[windows.recordings[training]])
            for recording in np.nonzero(inner == fold)[0]:
                mean = svm.decision_function(windows.values[windows.recordings == recording]).mean(axis=0)
                count += mean.argmax() == labels[recording]
        right.append(count)
    assert len(set(right)) > 1  # or there would be nothing to choose
    chosen = LinearSVM(None, grid).fit(windows, labels, inner).C
    assert chosen == grid[int(np.argmax(right))]


def test_of_equally_good_cs_the_smallest_is_taken() -> None:
    windows, labels = problem(noise=0.01)
    assert LinearSVM(None, (1.0, 0.1, 10.0)).fit(windows, labels, np.arange(30) % 3).C == 0.1


def test_a_c_that_the_solver_cannot_finish_is_not_taken() -> None:
    windows, labels = problem(noise=3.0)
    large = Windows(windows.values * 1000, windows.recordings)
    chosen = LinearSVM(None, (1e-8, 1e-7, 100.0, 1000.0)).fit(large, labels, np.arange(30) % 3)
    assert chosen.converged and chosen.C in (1e-8, 1e-7)


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


def test_whether_the_solver_came_to_an_end_is_recorded() -> None:
    windows, labels = problem(noise=3.0)
    assert fit_svm(windows, labels, 1e-4).converged
    assert not fit_svm(Windows(windows.values * 1000, windows.recordings), labels, 100.0).converged
