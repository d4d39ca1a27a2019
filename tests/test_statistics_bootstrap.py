"""Bootstrap distributions: BCa limits against scipy's, p-values, repeats of the shots."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from qhybrid.errors import InputError
from qhybrid.statistics import (
    BootstrapDistribution,
    bootstrap_distributions,
    bootstrap_intervals,
    classification_metrics,
    paired_bootstrap_differences,
    paired_distributions,
    shot_redraws,
)
from qhybrid.statistics.distribution import acceleration_of


def binormal(n: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n - n // 2, n // 2])
    p = 1 / (1 + np.exp(-shift * (rng.normal(size=n) + shift * labels - shift / 2)))
    return labels, np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize(("shift", "confidence"), [(1.5, 0.95), (2.3, 0.95), (2.3, 0.8)])
def test_bca_interval_of_an_area_is_that_of_scipy(shift: float, confidence: float) -> None:
    labels, probabilities = binormal(50, shift, seed=1)

    def area(negative: np.ndarray, positive: np.ndarray, axis: int = -1) -> np.ndarray:
        wins = (positive[..., :, None] > negative[..., None, :]).mean(axis=(-1, -2))
        return np.asarray(wins)

    data = (probabilities[labels == 0, 1], probabilities[labels == 1, 1])
    theirs = stats.bootstrap(
        data, area, n_resamples=8000, method="BCa", confidence_level=confidence, batch=500, rng=np.random.default_rng(2)
    ).confidence_interval
    ours = bootstrap_intervals(labels, probabilities, n=8000, seed=3, confidence=confidence)["auc"]
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.006)
    percentile = bootstrap_intervals(labels, probabilities, n=8000, seed=3, confidence=confidence, kind="percentile")
    assert ours[0] < percentile["auc"][0]


def test_bca_limits_of_given_draws_are_those_of_scipy_exactly() -> None:
    # The same draws in both: scipy resamples indices with the generator that is used here by hand.
    sample = stats.expon.rvs(size=30, random_state=4)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(5), axis=-1)
    leave_out = np.array([np.delete(sample, k).mean() for k in range(30)])
    ours = BootstrapDistribution(sample.mean(), theirs.bootstrap_distribution, acceleration_of([leave_out]))
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)
    assert ours.stderr == pytest.approx(theirs.standard_error)


@pytest.mark.parametrize("kind", ["bca", "percentile"])
def test_a_p_value_is_where_the_interval_ends(kind: str) -> None:
    labels, probabilities = binormal(80, 1.5, seed=6)
    _, others = binormal(80, 1.5, seed=7)
    distribution = paired_distributions(labels, probabilities, others, n=4000, kind=kind)["auc"]
    for confidence in (0.5, 0.9, 0.95, 0.99):
        low, high = distribution.interval(confidence)
        assert distribution.p_value(low) == pytest.approx(1 - confidence, abs=0.01)
        assert distribution.p_value(high) == pytest.approx(1 - confidence, abs=0.01)
        assert distribution.p_value(low, "greater") == pytest.approx((1 - confidence) / 2, abs=0.005)
        assert distribution.p_value(high, "less") == pytest.approx((1 - confidence) / 2, abs=0.005)


def test_a_p_value_is_never_zero_and_of_no_difference_one() -> None:
    labels, probabilities = binormal(80, 3.0, seed=8)
    opposite = paired_distributions(labels, probabilities, probabilities[:, ::-1], n=500)
    assert {found.p_value() for found in opposite.values()} == {2 / 501}
    same = paired_distributions(labels, probabilities, probabilities, n=500)
    assert {found.p_value() for found in same.values()} == {1.0}
    swapped = paired_distributions(labels, probabilities[:, ::-1], probabilities, n=500)
    assert swapped["auc"].p_value(alternative="less") == 1 / 501
    assert swapped["auc"].p_value(alternative="greater") == 1.0


def test_a_perfect_prediction_has_no_width() -> None:
    labels = np.repeat([0, 1], 10)
    assert set(bootstrap_intervals(labels, np.eye(2)[labels], n=50).values()) == {(1.0, 1.0)}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_estimates_are_the_metrics_and_means_over_repeats(n_classes: int) -> None:
    rng = np.random.default_rng(9)
    labels = np.arange(60) % n_classes
    repeats = rng.dirichlet(np.ones(n_classes), size=(4, 60))
    each = [classification_metrics(labels, probabilities) for probabilities in repeats]
    found = bootstrap_distributions(labels, repeats, n=50)
    assert {name: one.estimate for name, one in found.items()} == pytest.approx(
        {name: np.mean([metrics[name] for metrics in each]) for name in each[0]}
    )
    single = bootstrap_intervals(labels, repeats[0], n=50, seed=2)
    assert bootstrap_intervals(labels, repeats[:1], n=50, seed=2) == single
    before = classification_metrics(labels, repeats[3])
    difference = paired_distributions(labels, repeats[:3], repeats[3], n=50)
    assert difference["auc"].estimate == pytest.approx(np.mean([one["auc"] for one in each[:3]]) - before["auc"])


def test_equal_repeats_add_nothing() -> None:
    labels, probabilities = binormal(60, 1.5, seed=10)
    once = bootstrap_intervals(labels, probabilities, n=200, seed=1)
    assert bootstrap_intervals(labels, np.stack([probabilities] * 3), n=200, seed=1) == {
        name: pytest.approx(interval) for name, interval in once.items()
    }


def shot_noise(n: int, repeats: int, drift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (R, N, 2) of a device whose shot noise is as large as the signal, and which drifts."""
    labels = np.repeat([0, 1], n // 2)
    ideal = rng.normal(size=n) + 1.5 * (2 * labels - 1)
    noisy = ideal + rng.normal(scale=1.0, size=(repeats, n)) + drift * rng.normal(size=(repeats, 1))
    p = 1 / (1 + np.exp(-noisy))
    return labels, np.stack([1 - p, p], axis=-1)


@pytest.mark.parametrize(("repeats", "drift"), [(1, 0.0), (5, 0.0), (10, 0.5)])
def test_intervals_cover_where_shot_noise_is_large(repeats: int, drift: float) -> None:
    # The truth is the area of new samples, new shots and, in the last case, new drift: Phi(3 / sqrt(2 (1 + 1))).
    rng = np.random.default_rng(11)
    truth = {"auc": stats.norm.cdf(3 / 2), "accuracy": stats.norm.cdf(1.5 / np.sqrt(2 + drift**2))}
    inside = dict.fromkeys(truth, 0)
    for trial in range(100):
        labels, probabilities = shot_noise(80, repeats, drift, rng)
        found = bootstrap_distributions(labels, probabilities, n=200, seed=trial)
        for name, value in truth.items():
            low, high = found[name].interval()
            inside[name] += low <= value <= high
    assert all(count >= 90 for count in inside.values()), inside


def test_drift_that_all_samples_of_a_repeat_share_widens_the_interval() -> None:
    rng = np.random.default_rng(12)
    labels, steady = shot_noise(400, 8, 0.0, rng)
    _, drifting = shot_noise(400, 8, 1.0, rng)
    narrow, wide = (bootstrap_distributions(labels, each, n=400)["recall"] for each in (steady, drifting))
    assert wide.stderr > 2 * narrow.stderr
    # By hand: recall's variance over repeats / R is most of it.
    over_repeats = [classification_metrics(labels, one)["recall"] for one in drifting]
    assert wide.stderr == pytest.approx(np.std(over_repeats, ddof=1) / np.sqrt(8), rel=0.25)


def test_shots_drawn_from_standard_errors_give_the_metrics_of_measured_shots() -> None:
    rng = np.random.default_rng(15)
    labels = np.repeat([0, 1], 200)
    exact = np.clip(0.25 * rng.normal(size=(400, 1)) + 0.2 * (2 * labels[:, None] - 1), -1, 1)
    stderr = np.sqrt((1 - exact**2) / 16)
    redrawn = shot_redraws(exact, stderr, repeats=200, seed=1)
    assert redrawn.shape == (200, 400, 1)
    assert np.abs(redrawn).max() <= 1
    inner = np.abs(exact) < 0.3
    assert redrawn.std(axis=0)[inner] == pytest.approx(stderr[inner], rel=0.25)
    measured = 2 * rng.binomial(16, (1 + exact) / 2, size=(200, 400, 1)) / 16 - 1

    def area(values: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(labels, each[:, 0]) for each in values]))

    assert area(redrawn) == pytest.approx(area(measured), abs=0.005)
    assert area(redrawn) < area(exact[None]) - 0.02


def test_jackknife_areas_match_deletion() -> None:
    labels, probabilities = binormal(30, 1.0, seed=13)
    found = bootstrap_distributions(labels, probabilities, n=20)["auc"]
    areas = np.array([roc_auc_score(np.delete(labels, k), np.delete(probabilities[:, 1], k)) for k in range(30)])
    assert found.acceleration == pytest.approx(acceleration_of([areas[labels == 0], areas[labels == 1]]))
    assert found.granularity == 0
    accuracy = bootstrap_distributions(labels, probabilities, n=20)["accuracy"]
    wrong = probabilities.argmax(axis=1) != labels
    assert accuracy.granularity == pytest.approx((30 - wrong.sum()) / 29 - accuracy.estimate)  # a wrong one less


def test_what_no_bootstrap_can_be_is_refused() -> None:
    labels, probabilities = binormal(20, 1.0, seed=14)
    with pytest.raises(InputError, match="did you mean 'bca'"):
        bootstrap_intervals(labels, probabilities, n=10, kind="BC")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n = 0 bootstrap draws"):
        bootstrap_intervals(labels, probabilities, n=0)
    with pytest.raises(InputError, match=r"confidence is 1\.0"):
        paired_bootstrap_differences(labels, probabilities, probabilities, n=10, confidence=1.0)
    with pytest.raises(InputError, match="0 repeats"):
        bootstrap_intervals(labels, np.zeros((0, 20, 2)), n=10)
    with pytest.raises(InputError, match=r"\(4, 1\).*\(4, 2\)"):
        shot_redraws(np.zeros((4, 1)), np.zeros((4, 2)), repeats=3)
    with pytest.raises(InputError, match="0 or more"):
        shot_redraws(np.zeros((4, 1)), -np.ones((4, 1)), repeats=3)
    with pytest.raises(InputError, match="repeats = 0"):
        shot_redraws(np.zeros((4, 1)), np.ones((4, 1)), repeats=0)
