"""Calibration against torchmetrics, scikit-learn and by hand; signal retention against scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from qhybrid.errors import InputError
from qhybrid.statistics import (
    brier_score,
    expected_calibration_error,
    reliability_table,
    signal_retention,
    wilson_interval,
)


def predictions(n: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    weights = np.exp(2 * rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels])
    return labels, weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("bins", [5, 15])
def test_expected_calibration_error_is_that_of_torchmetrics(n_classes: int, bins: int) -> None:
    labels, probabilities = predictions(300, n_classes, seed=1)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=n_classes, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(labels, probabilities, bins=bins) == pytest.approx(float(theirs), abs=1e-6)


def test_bins_hold_what_they_say() -> None:
    # Confidences .6 (wrong), .8 (right), .8 (right), .95 (right): by hand with ten bins of width .1.
    positive = np.array([0.6, 0.8, 0.8, 0.05])
    labels, probabilities = np.array([0, 1, 1, 0]), np.stack([1 - positive, positive], 1)
    table = reliability_table(labels, probabilities, bins=10)
    assert [row.n for row in table] == [0, 0, 0, 0, 0, 1, 0, 2, 0, 1]  # .6 and .8 belong to the bins they end
    assert (table[5].low, table[5].high) == pytest.approx((0.5, 0.6))
    assert (table[7].confidence, table[7].accuracy) == pytest.approx((0.8, 1.0))
    assert table[7].accuracy_interval == wilson_interval(2, 2)
    assert table[0].accuracy_interval == (0.0, 1.0)
    expected = (0.6 + 2 * 0.2 + 0.05) / 4
    assert expected_calibration_error(labels, probabilities, bins=10) == pytest.approx(expected)
    halves = reliability_table(labels, probabilities, bins=2, equal_mass=True)
    assert [(row.n, row.low, row.high) for row in halves] == [(2, 0.6, 0.8), (2, 0.8, 0.95)]
    assert expected_calibration_error(labels, probabilities, bins=2, equal_mass=True) == pytest.approx(
        (2 * abs(0.5 - 0.7) + 2 * abs(1 - 0.875)) / 4
    )


def test_equal_mass_bins_share_the_samples() -> None:
    labels, probabilities = predictions(100, 3, seed=2)
    table = reliability_table(labels, probabilities, bins=15, equal_mass=True)
    assert {row.n for row in table} == {6, 7}
    assert sum(row.n for row in table) == 100
    assert len(reliability_table(labels[:6], probabilities[:6], bins=15, equal_mass=True)) == 6


def test_sure_and_right_is_calibrated() -> None:
    labels = np.array([0, 1, 1])
    assert expected_calibration_error(labels, np.eye(2)[labels]) == 0
    assert brier_score(labels, np.eye(2)[labels]) == 0
    assert expected_calibration_error(labels, np.eye(2)[1 - labels]) == 1
    assert brier_score(labels, np.eye(2)[1 - labels]) == 1


def test_brier_score_is_that_of_scikit_learn() -> None:
    labels, probabilities = predictions(80, 2, seed=3)
    assert brier_score(labels, probabilities) == pytest.approx(brier_score_loss(labels, probabilities[:, 1]))
    labels, probabilities = predictions(80, 3, seed=4)
    by_hand = [sum((p - (c == y)) ** 2 for c, p in enumerate(probabilities[i])) for i, y in enumerate(labels)]
    assert brier_score(labels, probabilities) == pytest.approx(np.mean(by_hand))
    single = torch.softmax(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), dim=1).numpy()
    assert 0 <= brier_score(np.arange(50) % 2, single) <= 1


@pytest.mark.parametrize("call", [expected_calibration_error, brier_score, reliability_table])
def test_scores_that_are_no_probabilities_are_refused(call: object) -> None:
    for scores in ([[0.2, 0.9], [0.5, 0.5]], [[-0.2, 1.2], [0.5, 0.5]]):
        with pytest.raises(InputError, match="sum to 1"):
            call([0, 1], scores)  # type: ignore[operator]
    with pytest.raises(InputError, match="bins = 0"):
        reliability_table([0, 1], [[0.5, 0.5]] * 2, bins=0)


def test_signal_retention_is_the_line_of_scipy() -> None:
    rng = np.random.default_rng(5)
    ideal = rng.uniform(-1, 1, size=(60, 3))
    noisy = np.array([0.9, 0.5, 0.1]) * ideal + np.array([0.0, 0.05, -0.2]) + rng.normal(scale=0.05, size=(60, 3))
    found = signal_retention(noisy, ideal)
    for k in range(3):
        line = stats.linregress(ideal[:, k], noisy[:, k])
        assert (found.line_slope[k], found.line_slope_stderr[k]) == pytest.approx((line.slope, line.stderr))
        assert (found.intercept[k], found.intercept_stderr[k]) == pytest.approx((line.intercept, line.intercept_stderr))
        assert found.r_squared[k] == pytest.approx(line.rvalue**2)
        # Through the origin: least squares of numpy and its residual variance.
        slope, residual, _, _ = np.linalg.lstsq(ideal[:, [k]], noisy[:, k], rcond=None)
        assert found.slope[k] == pytest.approx(slope[0])
        assert found.slope_stderr[k] == pytest.approx(np.sqrt(residual[0] / 59 / (ideal[:, k] ** 2).sum()))
        assert found.rmse[k] == pytest.approx(np.sqrt(np.mean((noisy - ideal)[:, k] ** 2)))


def test_standard_errors_are_what_repetition_shows() -> None:
    rng = np.random.default_rng(6)
    ideal = rng.uniform(-1, 1, size=(80, 400))  # the same fit 400 times, as 400 observables
    found = signal_retention(0.8 * ideal + 0.1 + rng.normal(scale=0.1, size=ideal.shape), ideal)
    for value, stderr in (
        (found.line_slope, found.line_slope_stderr),
        (found.intercept, found.intercept_stderr),
        (found.rmse, found.rmse_stderr),
    ):
        assert np.sqrt(np.mean(stderr**2)) == pytest.approx(np.std(value), rel=0.15)
    assert found.line_slope.mean() == pytest.approx(0.8, abs=0.01)


def test_shot_noise_is_taken_out_of_the_rmse() -> None:
    rng = np.random.default_rng(7)
    ideal = rng.uniform(-1, 1, size=(5000, 1))
    exact = 0.9 * ideal
    shots = np.sqrt((1 - exact**2) / 1024)
    found = signal_retention(exact + shots * rng.normal(size=ideal.shape), ideal, shots)
    without = signal_retention(exact, ideal)
    assert without.slope == pytest.approx(0.9)
    assert without.rmse_without_shots == without.rmse
    assert found.rmse > 1.05 * without.rmse
    assert found.rmse_without_shots == pytest.approx(without.rmse, rel=0.02)


def test_what_cannot_be_fitted_is_nan_and_what_is_perfect_is_one() -> None:
    values = np.array([[0.5, 0.0, 0.1], [0.5, 0.0, 0.2], [0.5, 0.0, 0.4], [0.5, 0.0, -0.3]])
    found = signal_retention(values, values)
    assert found.slope[[0, 2]] == pytest.approx([1, 1])
    assert np.isnan(found.slope[1])
    assert np.isnan(found.line_slope[[0, 1]]).all()
    assert np.isnan(found.r_squared[:2]).all()
    assert (found.line_slope[2], found.r_squared[2]) == pytest.approx((1, 1))
    assert found.rmse.tolist() == [0, 0, 0]
    assert found.rmse_stderr.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("noisy", "ideal", "stderr", "said"),
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), None, r"\(4, 2\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), None, "N >= 3"),
        (np.zeros((4, 2)), np.zeros((4, 2)), np.zeros(2), r"\(2,\)"),
        (np.full((4, 2), np.nan), np.zeros((4, 2)), None, "not finite"),
    ],
)
def test_expectation_values_that_do_not_fit_are_refused(
    noisy: np.ndarray, ideal: np.ndarray, stderr: np.ndarray | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        signal_retention(noisy, ideal, stderr)
